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

#: Every second of forty blocks of 100 kB is freed; prints how many of them the next forty come from, how much closing
#: them took in all, and by how many kilobytes the process grew by it.
_HOLES = """
import ctypes, resource, sys
from services.analysis.allocator import close_holes, give_back_unused, keep_freed_memory
keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
blocks = [libc.malloc(100_000) for _ in range(40)]
for block in blocks[::2]:
    libc.free(block)
give_back_unused()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
closed = close_holes() if "close" in sys.argv else 0
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
again = [libc.malloc(100_000) for _ in range(40)]
print(len(set(again) & set(blocks[::2])), closed, grown)
"""

_NEEDS_GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no mallopt(3)")


@_NEEDS_GLIBC
def test_closed_holes_are_not_used_again_and_cost_no_memory() -> None:
    def told(*arguments: str) -> tuple[int, ...]:
        command = [sys.executable, "-c", _HOLES, *arguments]
        output = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout
        return tuple(int(number) for number in output.split())

    used_again, _, _ = told()
    assert used_again >= 15
    used_again, closed, grown_kb = told("close")
    assert used_again == 0
    assert closed > 15 * 100_000
    assert grown_kb < 500


@_NEEDS_GLIBC
def test_buffers_of_one_request_are_there_for_the_next() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _REQUESTS], capture_output=True, check=True, text=True, timeout=60
    ).stdout
    pages_of_one_request = 3 * 8 * 224 * 224 * 3 // 4096
    assert int(told) < 3 * pages_of_one_request  # 50 requests take 32 times as many as one otherwise
