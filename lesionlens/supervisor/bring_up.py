"""Brings everything up in order, keeps it up, and brings it down in order within ten seconds.

Down is the reverse of up: first nothing new comes in (gateway), then nothing is worked on (workers, beat), then what
they stood on goes (networks, Valkey, Postgres).
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import FrameType

from lesionlens.supervisor.child import Child
from lesionlens.supervisor.console import Console
from lesionlens.supervisor.orphan_guard import OrphanGuard
from lesionlens.supervisor.plan import ROOT, Plan
from lesionlens.supervisor.postgres import PostgresError
from lesionlens.supervisor.program import Program
from lesionlens.supervisor.sample import NoAnswerError, classify_sample
from services.analysis.end import LOOKS_EVERY_S

#: Seconds a second Ctrl-C must come after the first to mean "now": `make` and the terminal each send the first one.
IMPATIENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """Somebody asked us to stop."""

    signal: signal.Signals


@dataclass(frozen=True, slots=True)
class _Failed:
    """We cannot go on, for the reason in the sentence."""

    sentence: str


class Supervisor:
    """Runs a plan until it is asked to stop."""

    def __init__(self, plan: Plan, console: Console, lock_descriptor: int) -> None:
        self._plan = plan
        self._console = console
        self._begin = time.monotonic()
        self._inbox: queue.SimpleQueue[_Asked | _Failed] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._guard = OrphanGuard(lock_descriptor)
        self._servers = [self._child(program) for program in plan.servers]
        self._workers = [self._child(program) for program in plan.workers]
        self._migration = self._child(plan.migration)
        self._gateway = self._child(plan.gateway)

    def run(self) -> int:
        """Up, wait, down. The exit status: 0 when asked to stop, 1 when something kept it from going on.

        Call it in the main thread, which alone receives signals.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Whoever used `nohup` wants it to outlive the terminal.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        rise = threading.Thread(target=self._bring_up, name="bring-up", daemon=True)
        rise.start()
        status = 0
        why = self._wait()
        if isinstance(why, _Failed):
            self._console.say(why.sentence)
            status = 1
        self._console.say("stopping")
        self._stopping.set()
        fall = threading.Thread(target=self._bring_down, name="bring-down")
        fall.start()
        self._wait_for(fall)
        self._console.say("stopped")
        return status

    def _wait(self) -> _Asked | _Failed:
        """What ends the waiting.

        A signal that the system hands to another thread does not wake this one, which alone runs Python's handler: it
        looks by itself, too.
        """
        while True:
            try:
                return self._inbox.get(timeout=LOOKS_EVERY_S)
            except queue.Empty:
                continue

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # SimpleQueue.put may be called from a signal handler; nothing else here may.
        self._inbox.put(_Asked(signal.Signals(number)))

    def _wait_for(self, fall: threading.Thread) -> None:
        """Waits for the end; a second, later Ctrl-C makes it a quick one."""
        begin = time.monotonic()
        while fall.is_alive():
            try:
                again = self._inbox.get(timeout=0.1)
            except queue.Empty:
                continue
            impatient = isinstance(again, _Asked) and again.signal is signal.SIGINT
            if impatient and time.monotonic() - begin > IMPATIENCE_S:
                for child in self._children:
                    child.ask_to_stop()
                    child.end(time.monotonic())

    @property
    def _children(self) -> list[Child]:
        return [self._gateway, *self._workers, *self._servers]

    def _child(self, program: Program) -> Child:
        return Child(
            program,
            self._console,
            self._guard,
            working_folder=ROOT,
            pid_file=self._plan.run_folder / f"{program.name}.pid",
            gave_up=lambda sentence: self._inbox.put(_Failed(sentence)),
        )

    def _bring_up(self) -> None:
        try:
            if self._rise():
                self._console.say(f"ready after {time.monotonic() - self._begin:.1f} s: {self._plan.address}")
                self._send_sample()
                for child in self._children:
                    child.trust()
        except (PostgresError, OSError) as error:
            self._inbox.put(_Failed(str(error)))

    def _send_sample(self) -> None:
        try:
            self._console.say(classify_sample(self._plan.host, self._plan.port))
        except NoAnswerError as error:
            # The log of the part that did not do its work stands above; the others may still be of use.
            self._console.say(f"the drawn sample got no answer: {error}")

    def _rise(self) -> bool:
        """Starts everything; False when it was stopped on the way."""
        databases = [child for child in self._servers if child.program.name == "postgres"]
        others = [child for child in self._servers if child not in databases]
        _start(others)  # The networks take longest, and need no database.
        if self._plan.create is not None:
            self._plan.create(self._console.say)
        _start(databases)
        if not self._answer(child for child in self._servers if child.program.name != "networks"):
            return False
        if not self._migrate():
            return False
        _start([self._gateway, *self._workers])
        return self._answer(self._children)

    def _answer(self, children: Iterable[Child]) -> bool:
        return all(child.wait_until_it_answers(self._stopping) for child in children)

    def _migrate(self) -> bool:
        code = self._migration.run_to_its_end()
        if code and not self._stopping.is_set():
            self._inbox.put(_Failed("The database could not be brought to the newest schema; the lines above say why."))
        return code == 0

    def _bring_down(self) -> None:
        by_name = {child.program.name: child for child in self._servers}
        order = [[self._migration, self._gateway], self._workers]
        order += [[by_name[name]] for name in ("networks", "valkey", "postgres") if name in by_name]
        for group in order:
            end_together(group)
        self._guard.close()


def end_together(group: Sequence[Child]) -> None:
    """Ends programs side by side: the time of each begins now, not when the one before it is gone."""
    begin = time.monotonic()
    for child in group:
        child.ask_to_stop()
    for child in group:
        child.end(begin + child.program.stop_within_s)


def _start(children: Iterable[Child]) -> None:
    for child in children:
        child.start()
