"""The nightly job that deletes what has been kept long enough, as the CronJob runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("", 0, {"deleted": 0}),
        ("postgresql://nobody@127.0.0.1:9/nowhere", 1, {"because": "The database does not answer.", "deleted": 0}),
    ],
)
def test_the_job_says_in_one_line_how_it_ended(
    postgres_url: str, tmp_path: Path, url: str, code: int, said: dict[str, object]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.stacker.retention"],
        env={
            **os.environ,
            "DATABASE_URL": url or postgres_url,
            "BLOB_STORE_URL": tmp_path.as_uri(),
            "LOG_FORMAT": "json",
        },
        text=True,
        capture_output=True,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == code
    assert said.items() <= json.loads(line).items()
