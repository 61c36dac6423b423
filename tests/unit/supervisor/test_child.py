"""A child is kept running, passed on line by line, and ended whole. The programs here are one-line Python scripts."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import tenacity

from lesionlens.supervisor.child import GIVE_UP_AFTER, Child
from lesionlens.supervisor.console import Console
from lesionlens.supervisor.orphan_guard import OrphanGuard
from lesionlens.supervisor.program import Program

PATIENCE_S = 20


def eventually(question: Callable[[], object]) -> None:
    tenacity.Retrying(
        stop=tenacity.stop_after_delay(PATIENCE_S),
        wait=tenacity.wait_fixed(0.02),
        retry=tenacity.retry_if_exception_type() | tenacity.retry_if_result(lambda answer: not answer),
    )(question)


class Nursery:
    """Makes children whose lines end up in `text`."""

    def __init__(self, folder: Path) -> None:
        self.output = io.BytesIO()
        self.folder = folder
        self.pid_file = folder / "child.pid"
        self.given_up: list[str] = []
        self.children: list[Child] = []
        self.lock = (folder / "lock").open("w")
        self.guard = OrphanGuard(self.lock.fileno())

    def start(self, script: str, **rest: object) -> Child:
        program = Program("child", (sys.executable, "-u", "-c", script), dict(os.environ), **rest)  # type: ignore[arg-type]
        child = Child(
            program, Console(["child"], self.output, colours=False), self.guard,
            working_folder=self.folder, pid_file=self.pid_file, gave_up=self.given_up.append,
        )  # fmt: skip
        self.children.append(child)
        child.start()
        return child

    @property
    def text(self) -> str:
        return self.output.getvalue().decode()

    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def close(self) -> None:
        for child in self.children:
            child.ask_to_stop()
            child.end(time.monotonic())
        self.guard.close()
        self.lock.close()


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path)
    yield nursery
    nursery.close()


def test_every_line_stands_behind_the_name_of_its_program(nursery: Nursery) -> None:
    nursery.start("import sys, time; print('one'); print('two', file=sys.stderr); time.sleep(60)")

    eventually(lambda: nursery.text.count("\n") == 2)
    assert sorted(nursery.text.splitlines()) == ["child      │ one", "child      │ two"]


def test_it_reads_what_it_is_given_on_standard_input(nursery: Nursery) -> None:
    nursery.start("import sys, time; print(sys.stdin.read()); time.sleep(60)", standard_input=b"a secret")

    eventually(lambda: "a secret" in nursery.text)
    assert nursery.text.splitlines() == ["child      │ a secret"]


def test_a_program_whose_pid_cannot_be_written_runs_once_all_the_same(nursery: Nursery) -> None:
    nursery.pid_file = Path("/dev/full")
    nursery.start("import time; print('up'); time.sleep(60)")

    eventually(lambda: "up" in nursery.text)
    assert nursery.text.splitlines() == ["child      │ up"]


def test_what_is_killed_is_started_again(nursery: Nursery) -> None:
    nursery.start("import time; print('up'); time.sleep(60)")
    eventually(lambda: nursery.text.count("up") == 1)
    first = nursery.pid()

    os.kill(first, signal.SIGKILL)

    eventually(lambda: nursery.text.count("│ up") == 2)
    assert nursery.pid() != first
    assert "was ended by SIGKILL; it is started again" in nursery.text


def test_what_it_started_itself_does_not_outlive_it(nursery: Nursery) -> None:
    nursery.start(
        "import subprocess, sys, time\n"
        "worker = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('worker', worker.pid); time.sleep(60)"
    )
    eventually(lambda: "worker" in nursery.text)
    worker = psutil.Process(int(nursery.text.split()[-1]))
    assert worker.is_running()

    os.kill(nursery.pid(), signal.SIGKILL)

    eventually(lambda: not _lives(worker))
    assert not _lives(worker)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_cannot_run_is_given_up_with_a_reason(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesionlens.supervisor.child.PAUSES_S", (0.0,))

    nursery.start("raise SystemExit('the port is taken')")

    eventually(lambda: nursery.given_up)
    assert nursery.given_up[0].startswith(f"child ended with status 1 {GIVE_UP_AFTER} times in a row")
    assert nursery.text.count("the port is taken") == GIVE_UP_AFTER


def test_what_has_worked_once_is_never_given_up(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesionlens.supervisor.child.PAUSES_S", (0.0,))

    child = nursery.start("import time; time.sleep(0.05); raise SystemExit('again')")
    child.trust()

    eventually(lambda: nursery.text.count("│ again") > GIVE_UP_AFTER)
    assert nursery.given_up == []


def test_it_ends_in_good_order_when_asked(nursery: Nursery) -> None:
    child = nursery.start(
        "import signal, sys, time\n"
        "def end(*_): print('in good order'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('up'); time.sleep(60)"
    )
    eventually(lambda: "up" in nursery.text)

    child.ask_to_stop()
    child.end(time.monotonic() + PATIENCE_S)

    assert "in good order" in nursery.text
    assert "started again" not in nursery.text
    assert not (nursery.folder / "child.pid").exists()


def test_what_does_not_listen_is_killed_when_its_time_is_up(nursery: Nursery) -> None:
    child = nursery.start(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)"
    )
    eventually(lambda: "up" in nursery.text)
    process = psutil.Process(nursery.pid())

    child.ask_to_stop()
    child.end(time.monotonic() + 0.2)

    assert not process.is_running()
    assert "did not stop in time and is killed" in nursery.text


def test_it_answers_when_its_probe_says_so(nursery: Nursery) -> None:
    import threading

    answers = iter([False, False, True])
    child = nursery.start("import time; time.sleep(60)", answers=lambda: next(answers))

    assert child.wait_until_it_answers(threading.Event())
    assert next(answers, None) is None


def test_waiting_for_an_answer_ends_with_the_wish_for_it(nursery: Nursery) -> None:
    import threading

    child = nursery.start("import time; time.sleep(60)", answers=lambda: False)
    given_up = threading.Event()
    given_up.set()

    assert not child.wait_until_it_answers(given_up)
