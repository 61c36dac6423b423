"""Log lines of many programs in one terminal, each behind its program's name."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from typing import BinaryIO

#: ANSI colours that can be read on dark and on light ground; red is left to errors.
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_SUPERVISOR = "lesionlens"


class Console:
    """Writes whole lines, from any thread, coloured where somebody is looking (`NO_COLOR` is heeded)."""

    def __init__(self, names: Iterable[str], stream: BinaryIO | None = None, *, colours: bool | None = None) -> None:
        self._stream = sys.stdout.buffer if stream is None else stream
        if colours is None:
            colours = self._stream.isatty() and "NO_COLOR" not in os.environ
        self._lock = threading.Lock()
        self._prefixes: dict[str, bytes] = {}
        everybody = [_SUPERVISOR, *names]
        width = max(map(len, everybody))
        for position, name in enumerate(everybody):
            prefix = f"{name:<{width}} │ "
            if colours:
                prefix = f"\x1b[{'1' if name == _SUPERVISOR else _COLOURS[position % len(_COLOURS)]}m{prefix}\x1b[0m"
            self._prefixes[name] = prefix.encode()

    def say(self, sentence: str) -> None:
        """A line of the supervisor's own."""
        self.write(_SUPERVISOR, sentence.encode())

    def write(self, name: str, line: bytes) -> None:
        """One line of the program `name`, without its line end."""
        with self._lock:
            try:
                self._stream.write(self._prefixes[name] + line.rstrip() + b"\n")
                self._stream.flush()
            except (OSError, ValueError):
                # The terminal is gone. The service need not go with it.
                return
