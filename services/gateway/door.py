"""Back-pressure: how much may wait is bounded, and beyond it an upload is refused before a byte of it is looked at.

Bounded are the number of waiting analyses and the age of the oldest that nobody has begun. What is asked of the record
is kept for half a second and what this process lets in meanwhile is added to it, so a refusal costs no query, and each
gateway process lets in at most what half a second brings beyond the bound. Once shut, the door opens again when a tenth
of the places are free: that is what Retry-After promises, at the pace at which analyses have been finished lately.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import ClassVar

from services.analysis.errors import DatabaseUnavailableError, LesionLensError
from services.analysis.record import Pressure

#: Seconds the record's answer is used.
LOOK_AGAIN_S = 0.5
#: Share of the places that must be free before a shut door opens: otherwise it would let in one for each that leaves,
#: and nobody could say when to come back.
FREE_TO_OPEN = 0.1
#: Seconds: the shortest and the longest Retry-After; the longest, too, when nothing is being finished.
MIN_RETRY_AFTER_S = 1
MAX_RETRY_AFTER_S = 120


class TooMuchWaitingError(LesionLensError):
    """More analyses wait than are allowed to, or the oldest has waited for too long."""

    status = 503
    problem = "too-much-waiting"
    title = "Too many photographs are waiting"
    advice = (
        "Nothing was stored. Send it again after the time in Retry-After; what was accepted before is worked through."
    )
    #: What the metrics call it.
    code: ClassVar[str] = "too_much_waiting"

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Door:
    """Lets uploads in or not. Shared by the threads of one process."""

    def __init__(self, ask: Callable[[], Pressure], max_waiting: int, max_waiting_s: float) -> None:
        self._ask = ask
        self._max_waiting = max_waiting
        self._max_waiting_s = max_waiting_s
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._asked_at = -math.inf
        self._pressure = Pressure(0, 0.0, 0.0)
        self._let_in = 0
        self._shut = False
        self._unknown: str | None = None

    def check(self) -> None:
        """Whether one more may come in, as far as is known; takes no place.

        Raises:
            TooMuchWaitingError: no; it says when.
        """
        with contextlib.suppress(DatabaseUnavailableError):
            self._admit(0)

    def let_in(self, count: int) -> None:
        """Takes `count` places, or none.

        Raises:
            TooMuchWaitingError: there are not so many; it says when.
            DatabaseUnavailableError: nobody knows.
        """
        self._admit(count)

    def _admit(self, count: int) -> None:
        self._look()
        if self._unknown is not None:
            raise DatabaseUnavailableError(self._unknown)
        with self._lock:
            waiting, oldest_s = self._pressure.waiting + self._let_in, self._pressure.oldest_s
            opens_at = min(self._max_waiting - 1, math.floor(self._max_waiting * (1 - FREE_TO_OPEN)))
            self._shut = waiting > opens_at if self._shut else waiting >= self._max_waiting
            too_old = oldest_s > self._max_waiting_s
            # A batch that is larger than all places still finds its way in when there is nobody else.
            too_many = self._shut or (waiting > 0 and waiting + count > self._max_waiting)
            if not (too_many or too_old):
                self._let_in += count
                return
            # The oldest is young again when all that waits now is done: it waits in line with the others.
            to_leave = waiting if too_old else max(1, waiting + max(count, 1) - 1 - opens_at)
        retry_after_s = _seconds_until(to_leave, self._pressure.finished_per_s)
        raise TooMuchWaitingError(f"{waiting:,} photographs are waiting already.", retry_after_s)

    def _look(self) -> None:
        """Asks the record when the last answer is old; while one thread asks, the others go by that.

        That nobody knows is an answer, too: a database that is away is not asked by all threads one after the other.
        """
        if self._is_fresh() or not self._asking.acquire(blocking=self._asked_at < 0):
            return
        try:
            if not self._is_fresh():
                pressure = self._asked()
                with self._lock:
                    if pressure is not None:
                        self._pressure, self._let_in = pressure, 0
                    self._asked_at = time.monotonic()
        finally:
            self._asking.release()

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._asked_at < LOOK_AGAIN_S

    def _asked(self) -> Pressure | None:
        try:
            pressure = self._ask()
        except DatabaseUnavailableError as error:
            self._unknown = error.detail
            return None
        self._unknown = None
        return pressure


def _seconds_until(to_leave: int, finished_per_s: float) -> int:
    if finished_per_s <= 0:
        return MAX_RETRY_AFTER_S
    return min(MAX_RETRY_AFTER_S, max(MIN_RETRY_AFTER_S, math.ceil(to_leave / finished_per_s)))
