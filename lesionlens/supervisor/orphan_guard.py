"""The supervisor's side of the guard."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

_GUARD = Path(__file__).with_name("guard.py")
#: Seconds to wait for the guard's end when there is nothing left to end.
_CLOSE_S = 2.0


class OrphanGuard:
    """Keeps the guard informed; starts another one should it die."""

    def __init__(self, lock_descriptor: int) -> None:
        self._lock_descriptor = lock_descriptor
        self._alive: dict[int, signal.Signals] = {}
        self._mutex = threading.Lock()
        self._closed = False
        self._process = self._start()

    def started(self, group: int, stop_signal: signal.Signals) -> None:
        """The process group `group` lives."""
        with self._mutex:
            self._alive[group] = stop_signal
            self._tell(f"+{group} {int(stop_signal)}\n")

    def ended(self, group: int) -> None:
        """Nothing of the process group `group` lives any more."""
        with self._mutex:
            self._alive.pop(group, None)
            self._tell(f"-{group}\n")

    def close(self) -> None:
        """Ends the guard (which ends what is still alive)."""
        with self._mutex:
            self._closed = True
            self._hang_up()
            try:
                self._process.wait(_CLOSE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
            pass_fds=(self._lock_descriptor,),
        )

    def _tell(self, line: str) -> None:
        if self._closed:
            return
        try:
            self._write(line)
        except OSError:
            self._hang_up()
            self._process.wait()
            self._process = self._start()
            for group, stop_signal in self._alive.items():
                self._write(f"+{group} {int(stop_signal)}\n")

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())

    def _hang_up(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
