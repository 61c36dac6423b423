"""Freed memory is kept for what comes next."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

#: Three buffers of 1.2 MB at a time, as for a request of eight images, fifty times; prints the number of page faults.
_REQUESTS = """
import resource
from services.analysis.allocator import keep_freed_memory
keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    buffers = [b"x" * (8 * 224 * 224 * 3) for _ in range(3)]
    del buffers
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no mallopt(3)")
def test_buffers_of_one_request_are_there_for_the_next() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _REQUESTS], capture_output=True, check=True, text=True, timeout=60
    ).stdout
    pages_of_one_request = 3 * 8 * 224 * 224 * 3 // 4096
    assert int(told) < 3 * pages_of_one_request  # 50 requests take 32 times as many as one otherwise
