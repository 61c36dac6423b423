"""What comes up is kept up, and goes down in good time. The programs here are one-line Python scripts."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lesionlens.supervisor import bring_up
from lesionlens.supervisor.bring_up import end_together
from lesionlens.supervisor.child import GIVE_UP_AFTER
from lesionlens.supervisor.plan import ROOT
from lesionlens.supervisor.program import Program
from lesionlens.supervisor.sample import classify_sample


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a supervisor that can be sent signals; whatever the test did, it does not outlive it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*how: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-u", "-m", "tests.unit.supervisor.supervised", str(tmp_path), *how]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True))
        return started[-1]

    yield start
    for supervisor in started:
        supervisor.kill()  # its guard ends what it had started
        supervisor.communicate()


def lines_until(supervisor: subprocess.Popen[bytes], word: bytes, times: int = 1) -> bytes:
    """What it said until it said `word` so many times; all of it when it ended before."""
    assert supervisor.stdout is not None
    said = b""
    while said.count(word) < times and (line := supervisor.stdout.readline()):
        said += line
    return said


def test_what_came_up_is_started_again_for_ever_even_if_the_sample_got_no_answer(
    tmp_path: Path, supervised: Callable[..., subprocess.Popen[bytes]]
) -> None:
    supervisor = supervised()
    assert b"got no answer: busy" in lines_until(supervisor, b"trusted")
    (tmp_path / "gate").touch()

    said = lines_until(supervisor, b"started again", 2 * GIVE_UP_AFTER + 1)
    supervisor.send_signal(signal.SIGTERM)
    last, _ = supervisor.communicate(timeout=60)

    assert said.count(b"started again") > 2 * GIVE_UP_AFTER, said.decode()
    assert last.rstrip().endswith(b"stopped")
    assert supervisor.returncode == 0


def test_a_signal_that_is_handed_to_another_thread_is_heard(
    supervised: Callable[..., subprocess.Popen[bytes]],
) -> None:
    supervisor = supervised("deaf")
    lines_until(supervisor, b"trusted")

    supervisor.send_signal(signal.SIGTERM)

    last, _ = supervisor.communicate(timeout=60)
    assert last.rstrip().endswith(b"stopped")
    assert supervisor.returncode == 0


class Deaf:
    """Keeps the deadline that it is given, and takes all of it."""

    def __init__(self, stop_within_s: float) -> None:
        self.program = Program("deaf", (), stop_within_s=stop_within_s)
        self.deadline = 0.0

    def ask_to_stop(self) -> None:
        pass

    def end(self, deadline: float) -> None:
        self.deadline = deadline


def test_programs_that_stop_together_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100, 200))
    monkeypatch.setattr(bring_up.time, "monotonic", lambda: next(clock))
    deaf = [Deaf(2.5), Deaf(2.5), Deaf(0.8)]

    end_together(deaf)  # type: ignore[arg-type]

    assert [child.deadline for child in deaf] == [102.5, 102.5, 100.8]


def test_a_moment_in_which_the_service_is_busy_does_not_cost_the_sample_its_answer() -> None:
    answers = iter([(503, b'{"title": "Busy"}'), (200, b'{"state": "rejected", "reason": "blurred"}')])

    class Service(BaseHTTPRequestHandler):
        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(202, b'{"id": "1", "state": "queued"}')

        def do_GET(self) -> None:
            self.answer(*next(answers))

        def do_DELETE(self) -> None:
            self.answer(204, b"")

        def log_message(self, *_words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever).start()
        said = classify_sample("127.0.0.1", server.server_address[1])
        server.shutdown()

    assert "rejected" in said
    assert "blurred" in said
