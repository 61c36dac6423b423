"""Keeps one program running: starts it, passes its lines on, starts it again when it ends unasked."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lesionlens.supervisor.console import Console
from lesionlens.supervisor.orphan_guard import OrphanGuard
from lesionlens.supervisor.program import Program

#: Seconds before each restart in a row; the last one holds for all further ones.
PAUSES_S = (0.1, 0.5, 1.0, 2.0, 5.0)
#: Seconds of good conduct after which earlier ends are forgotten.
FORGET_AFTER_S = 30.0
#: Ends in a row after which a program that is not trusted yet is given up.
GIVE_UP_AFTER = 5
#: Seconds between two questions whether a program answers yet.
_POLL_S = 0.1
#: Bytes read at once from a program's output; a line longer than this is broken.
_CHUNK = 65_536


class Child:
    """One program, run in a session of its own: signals to the supervisor's group (Ctrl-C) do not reach it.

    So the supervisor alone decides who is stopped when, and a group can be killed whole.
    """

    def __init__(
        self,
        program: Program,
        console: Console,
        guard: OrphanGuard,
        *,
        working_folder: Path,
        pid_file: Path,
        gave_up: Callable[[str], None],
    ) -> None:
        self.program = program
        self._console = console
        self._guard = guard
        self._working_folder = working_folder
        self._pid_file = pid_file
        self._gave_up = gave_up
        self._stopping = threading.Event()
        self._trusted = threading.Event()
        self._mutex = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._last_status = -1
        self._thread = threading.Thread(target=self._keep_running, name=program.name)

    def start(self) -> None:
        """Starts the program and returns at once."""
        self._thread.start()

    def run_to_its_end(self) -> int:
        """Runs the program once, in this thread; its exit status, -1 when it was stopped or could not be started."""
        self._run_once()
        return self._last_status

    def wait_until_it_answers(self, give_up: threading.Event) -> bool:
        """Waits until the program answers; False when it is stopped or `give_up` is set before that."""
        probe = self.program.answers
        while probe is not None and not (self._process is not None and probe()):
            if self._stopping.is_set() or give_up.wait(_POLL_S):
                return False
        return True

    def trust(self) -> None:
        """It came up: from now on it is started again as often as it takes."""
        self._trusted.set()

    def ask_to_stop(self) -> None:
        """Asks the program to end in good order; it is not started again. Returns at once."""
        with self._mutex:
            self._stopping.set()
            if self._process is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    self._process.send_signal(self.program.stop_signal)

    def end(self, deadline: float) -> None:
        """Waits for the end until `deadline` (monotonic seconds), then kills the whole group."""
        if self._thread.ident is None:
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._console.say(f"{self.program.name} did not stop in time and is killed")
            with self._mutex:
                if self._process is not None:
                    _kill_group(self._process.pid)
            self._thread.join()

    def _keep_running(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            begin = time.monotonic()
            how = self._run_once()
            if self._stopping.is_set():
                return
            if time.monotonic() - begin > FORGET_AFTER_S:
                failures = 0
            pause_s = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
            failures += 1
            if failures >= GIVE_UP_AFTER and not self._trusted.is_set():
                self._gave_up(f"{self.program.name} {how} {failures} times in a row; its last lines above say why.")
                return
            self._console.say(f"{self.program.name} {how}; it is started again in {pause_s:g} s")
            self._stopping.wait(pause_s)

    def _run_once(self) -> str:
        """Runs the program to its end; how it ended, for a sentence."""
        program = self.program
        try:
            if program.before_start is not None:
                program.before_start()
            process = self._spawn()
        except OSError as error:
            return f"could not be started ({error})"
        if process is None:
            return "was stopped"
        relay = threading.Thread(target=self._relay, args=(process,), daemon=True)
        relay.start()
        code = self._last_status = process.wait()
        # Its own children (worker processes) must neither go on without it nor hold its pipe open.
        _kill_group(process.pid)
        self._guard.ended(process.pid)
        with self._mutex:
            self._process = None
        with contextlib.suppress(OSError):
            self._pid_file.unlink()
        relay.join(1.0)
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        program = self.program
        account = program.account
        with self._mutex:
            if self._stopping.is_set():
                return None
            process = subprocess.Popen(
                program.command,
                cwd=self._working_folder,
                env=dict(program.environment),
                stdin=subprocess.PIPE if program.standard_input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
            self._guard.started(process.pid, program.stop_signal)
            self._process = process
        # For whoever looks from outside. Without it, on a full disk, the program is none the worse.
        with contextlib.suppress(OSError):
            self._pid_file.write_text(str(process.pid))
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(program.standard_input)
                process.stdin.close()
        return process

    def _relay(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in _lines(process.stdout.fileno()):
                self._console.write(self.program.name, line)


def _lines(descriptor: int) -> Iterator[bytes]:
    rest = b""
    while True:
        try:
            chunk = os.read(descriptor, _CHUNK)
        except OSError:
            chunk = b""
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) >= _CHUNK:
            yield rest
            rest = b""
    if rest:
        yield rest


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
