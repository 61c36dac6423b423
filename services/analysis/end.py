"""How a process hears that it shall end."""

from __future__ import annotations

import queue
import signal
import time
from contextlib import suppress
from types import FrameType
from typing import Final, Protocol

#: Seconds between two looks of whoever waits for a signal: as long as a process may seem not to hear, and no load.
LOOKS_EVERY_S: Final = 0.5


class End(Protocol):
    """What a loop looks at and waits for; `threading.Event` is one, too."""

    def is_set(self) -> bool:
        """Whether it is time to end."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for so many seconds at most; whether it is time to end."""


class EndBySignal:
    """Set by SIGTERM and SIGINT from `listen` on.

    Not `threading.Event`: a handler runs in the main thread between any two steps of it, and hangs in `Event.set` for
    ever when that thread is about to wait and holds the event's lock. Nor is a thread that waits without end woken by a
    signal that the system hands to another one, though it alone may run the handler; so it looks by itself, too.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def listen(self) -> None:
        """Hear the signals; to be called in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def is_set(self) -> bool:
        """Whether a signal has come."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a signal, `timeout` seconds at most; whether one has come."""
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while not self._is_set and (left := until - time.monotonic()) > 0:
            with suppress(queue.Empty):
                self._calls.get(timeout=min(left, LOOKS_EVERY_S))
        return self._is_set

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._is_set = True
        self._calls.put(None)  # which a handler may do at any moment
