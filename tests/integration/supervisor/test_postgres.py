"""The embedded PostgreSQL, when the server before it did not end as it should."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest

from lesionlens.supervisor import postgres
from lesionlens.supervisor.postgres import EmbeddedPostgres
from lesionlens.supervisor.program import Program


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory(prefix="ll-pg-") as folder:
        Path(folder, "run").mkdir()
        embedded = EmbeddedPostgres(Path(folder) / "postgres", Path(folder) / "run")
        embedded.create(lambda _: None)
        yield embedded
        embedded.program({}).before_start()  # type: ignore[misc] - ends whatever a failed test left


def started(server: EmbeddedPostgres) -> subprocess.Popen[bytes]:
    program: Program = server.program(os.environ)
    account = program.account
    process = subprocess.Popen(
        program.command, env=dict(program.environment), stderr=subprocess.DEVNULL, start_new_session=True,
        user=account.pw_uid if account else None, group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not server.answers():
        assert time.monotonic() < deadline, "PostgreSQL did not start"
        os.sched_yield()
    return process


def test_a_backend_that_outlives_its_killed_server_is_ended_before_the_next_one_starts(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_ORPHAN_ENDS_S", 0.3)
    first = started(server)
    connection = psycopg2.connect(server.url)
    backend = psutil.Process(connection.get_backend_pid())
    backend.suspend()  # as one that computes: it does not notice that its server is gone
    first.kill()
    first.wait()
    assert backend.is_running()

    server.program({}).before_start()  # type: ignore[misc]

    assert not backend.is_running()
    second = started(server)
    with psycopg2.connect(server.url) as again, again.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    again.close()
    second.send_signal(signal.SIGINT)
    assert second.wait(10) == 0
