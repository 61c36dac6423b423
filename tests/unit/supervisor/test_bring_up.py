"""What comes up is kept up, and goes down in good time. The programs here are one-line Python scripts."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lesionlens.supervisor import bring_up, child
from lesionlens.supervisor.bring_up import Supervisor, end_together
from lesionlens.supervisor.child import GIVE_UP_AFTER
from lesionlens.supervisor.console import Console
from lesionlens.supervisor.plan import Plan
from lesionlens.supervisor.program import Program
from lesionlens.supervisor.sample import NoAnswerError, classify_sample
from tests.unit.supervisor.test_child import eventually


@pytest.fixture
def signals() -> Iterator[None]:
    """The handlers of before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_what_came_up_is_started_again_for_ever_even_if_the_sample_got_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unanswered(_host: str, _port: int) -> str:
        raise NoAnswerError("busy")

    trusted = threading.Event()
    trust = child.Child.trust

    def trust_and_tell(trusting: child.Child) -> None:
        trust(trusting)
        trusted.set()

    monkeypatch.setattr(bring_up, "classify_sample", unanswered)
    monkeypatch.setattr(child.Child, "trust", trust_and_tell)
    monkeypatch.setattr(child, "PAUSES_S", (0.0,))
    gate, output = tmp_path / "gate", io.BytesIO()
    ends_at_the_gate = f"import os\nwhile not os.path.exists({str(gate)!r}): pass"
    gateway = Program("gateway", (sys.executable, "-I", "-S", "-c", ends_at_the_gate), answers=lambda: True)
    plan = Plan((), Program("migrate", ("true",)), (), gateway, None, "127.0.0.1", 1, tmp_path)

    def ask_to_stop_after_many_ends() -> None:
        try:
            eventually(trusted.is_set)
            assert b"got no answer: busy" in output.getvalue()
            gate.touch()
            eventually(lambda: output.getvalue().count(b"started again") > 2 * GIVE_UP_AFTER)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with (tmp_path / "lock").open("w") as lock:
        supervisor = Supervisor(plan, Console(["gateway"], output, colours=False), lock.fileno())
        asking = threading.Thread(target=ask_to_stop_after_many_ends)
        asking.start()
        status = supervisor.run()
        # Its signal must meet the supervisor's handler even where that ended by itself, or it ends pytest.
        asking.join()

    assert status == 0, output.getvalue().decode()


@pytest.mark.usefixtures("signals")
def test_a_signal_that_is_handed_to_another_thread_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = threading.Event()

    def answered(_host: str, _port: int) -> str:
        ready.set()
        return "answered"

    monkeypatch.setattr(bring_up, "classify_sample", answered)
    for_ever = (sys.executable, "-I", "-S", "-c", "import time; time.sleep(3600)")
    gateway = Program("gateway", for_ever, answers=lambda: True, stop_within_s=0.1)
    plan = Plan((), Program("migrate", ("true",)), (), gateway, None, "127.0.0.1", 1, tmp_path)

    def take_the_signal() -> None:
        eventually(ready.is_set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        with (tmp_path / "lock").open("w") as lock:
            supervisor = Supervisor(plan, Console(["gateway"], io.BytesIO(), colours=False), lock.fileno())
            other = threading.Thread(target=take_the_signal)
            other.start()
            assert supervisor.run() == 0
            other.join()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
