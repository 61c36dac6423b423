"""Who may compute now: a fixed number of lanes, shared by all networks of a process, with a bounded queue
before them.

Without it, four networks called at once would run on all cores each and get in one another's way
(tensorflow/serving #1290: six models in parallel, 1–2 s became 10–13 s).
"""

import enum
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class Admission(enum.Enum):
    """What became of a request for a lane."""

    ADMITTED = "admitted"
    FULL = "full"  # too many already wait for this network
    GONE = "gone"  # nobody waits for the answer any more: deadline passed, or cancelled


@dataclass(slots=True, eq=False)
class _Ticket:
    network: str
    due: float = field(default=0.0)


class Lanes:
    """At most `count` inferences at once, and never two of one network; `queue` may wait for each network.

    A free lane goes to the ticket that is due first, where a ticket is due at its arrival less the seconds
    its network takes. Of calls that arrive together the longest so goes first, which is what ends an ensemble
    soonest (longest processing time first, Graham 1969), and nobody starves: the head start is a fraction of
    a second.
    """

    def __init__(self, count: int, queue: int) -> None:
        self._count = count
        self._queue = queue
        self._changed = threading.Condition()
        self._running: set[str] = set()
        self._waiting: list[_Ticket] = []

    @contextmanager
    def enter(self, network: str, expected_s: float, is_wanted: Callable[[], bool]) -> Iterator[Admission]:
        """Wait for a lane and hold it inside the `with` block; the block must look at the Admission first.

        `is_wanted` is asked whenever something changes; call `wake` when its answer may have changed.
        """
        ticket = _Ticket(network, time.monotonic() - expected_s)
        admission = self._wait(ticket, is_wanted)
        try:
            yield admission
        finally:
            if admission is Admission.ADMITTED:
                with self._changed:
                    self._running.discard(network)
                    self._changed.notify_all()

    def wake(self) -> None:
        """Let every waiting ticket ask again whether it is wanted."""
        with self._changed:
            self._changed.notify_all()

    def waiting(self) -> Counter[str]:
        """How many requests wait, by network."""
        with self._changed:
            return Counter(ticket.network for ticket in self._waiting)

    def _wait(self, ticket: _Ticket, is_wanted: Callable[[], bool]) -> Admission:
        with self._changed:
            if sum(other.network == ticket.network for other in self._waiting) >= self._queue:
                return Admission.FULL
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: self._is_next(ticket) or not is_wanted())
            self._waiting.remove(ticket)
            if not is_wanted():
                self._changed.notify_all()  # the turn this ticket gives up is somebody else's
                return Admission.GONE
            self._running.add(ticket.network)
            self._changed.notify_all()  # a second lane may be free for the next in the queue
            return Admission.ADMITTED

    def _is_next(self, ticket: _Ticket) -> bool:
        if len(self._running) >= self._count or ticket.network in self._running:
            return False
        startable = (other for other in self._waiting if other.network not in self._running)
        return min(startable, key=lambda other: other.due) is ticket
