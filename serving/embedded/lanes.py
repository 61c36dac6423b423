"""Who may compute now: a fixed number of lanes, shared by all networks of a process, with a bounded queue
before them.

Without it, four networks called at once would run on all cores each and get in one another's way
(tensorflow/serving #1290: six models in parallel, 1–2 s became 10–13 s).
"""

import enum
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: Output name → values, the first axis that of the images.
Outputs = Mapping[str, NDArray[Any]]


class Unanswered(enum.Enum):
    """Why images were not looked at."""

    FULL = "full"  # too many already wait for this network
    GONE = "gone"  # nobody waits for the answer any more: deadline passed, or cancelled


class Computes(Protocol):
    """One version of a network. Called by one thread at a time."""

    @property
    def name(self) -> str:
        """Of the network, whatever the version."""

    @property
    def expected_s(self) -> float:
        """Seconds that it takes for one image."""

    def infer(self, images: NDArray[Any], go_on: Callable[[], bool]) -> Outputs:
        """Its outputs for `images`; none when `go_on` turned False meanwhile."""


@dataclass(slots=True, eq=False)
class _Ticket:
    network: Computes
    images: NDArray[Any]
    is_wanted: Callable[[], bool]
    due: float
    called: threading.Event = field(default_factory=threading.Event)
    #: Who computes in this ticket's lane: it and who comes along. Empty for who waits, or comes along.
    party: tuple["_Ticket", ...] = ()
    outcome: Outputs | Unanswered | BaseException = Unanswered.GONE


def _nobody(_network: str, _seconds: float) -> None:
    pass


class Lanes:
    """At most `count` inferences at once, and never two of one network; `queue` may wait for each network.

    A free lane goes to the ticket that is due first, where a ticket is due at its arrival less the seconds
    its network takes. Of calls that arrive together the longest so goes first, which is what ends an ensemble
    soonest (longest processing time first, Graham 1969), and nobody starves: the head start is a fraction of
    a second.

    Whoever gets a lane for an odd number of images takes the next with an odd number along, for networks are quicker
    with pairs (docs/adr/0019). A lane is handed on to one thread: waking all that wait kept lanes empty meanwhile.
    """

    def __init__(self, count: int, queue: int, watch: Callable[[str, float], None] = _nobody) -> None:
        """`watch` is told the network and the seconds of each inference."""
        self._count = count
        self._queue = queue
        self._watch = watch
        self._changes = threading.Lock()
        self._running: set[str] = set()
        self._waiting: list[_Ticket] = []

    def run(self, network: Computes, images: NDArray[Any], is_wanted: Callable[[], bool]) -> Outputs | Unanswered:
        """Wait for a lane, and the network's outputs for `images` ([n, …]).

        `is_wanted` is asked whenever something changes; call `wake` when its answer may have changed.
        """
        ticket = _Ticket(network, images, is_wanted, time.monotonic() - network.expected_s * len(images))
        with self._changes:
            if sum(other.network.name == network.name for other in self._waiting) >= self._queue:
                return Unanswered.FULL
            self._waiting.append(ticket)
            self._call_next()
        ticket.called.wait()
        if ticket.party:
            self._compute(ticket.party)
        if isinstance(ticket.outcome, BaseException):
            raise ticket.outcome
        return ticket.outcome

    def wake(self) -> None:
        """Ask everybody who waits whether the answer is still wanted."""
        with self._changes:
            self._dismiss()

    def waiting(self) -> Counter[str]:
        """How many requests wait, by network."""
        with self._changes:
            return Counter(ticket.network.name for ticket in self._waiting)

    def _call_next(self) -> None:
        """Hand out what lanes are free."""
        self._dismiss()
        while len(self._running) < self._count:
            startable = [ticket for ticket in self._waiting if ticket.network.name not in self._running]
            if not startable:
                return
            first = min(startable, key=lambda ticket: ticket.due)
            first.party = (first, *self._companion(first))
            for ticket in first.party:
                self._waiting.remove(ticket)
            self._running.add(first.network.name)
            first.called.set()

    def _companion(self, first: _Ticket) -> list[_Ticket]:
        if len(first.images) % 2 == 0:
            return []
        others = (other for other in self._waiting if other is not first and other.network is first.network)
        return sorted((other for other in others if len(other.images) % 2), key=lambda ticket: ticket.due)[:1]

    def _dismiss(self) -> None:
        """Send away whose answer is not wanted any more."""
        for ticket in [ticket for ticket in self._waiting if not ticket.is_wanted()]:
            self._waiting.remove(ticket)
            ticket.called.set()

    def _compute(self, party: tuple[_Ticket, ...]) -> None:
        """Look at the images of all in one go, and share out what comes of it, a failure, too."""
        first = party[0]
        images = np.concatenate([ticket.images for ticket in party]) if len(party) > 1 else first.images
        began = time.perf_counter()
        try:
            outputs = first.network.infer(images, lambda: any(ticket.is_wanted() for ticket in party))
            start = 0
            for ticket in party if outputs else ():
                end = start + len(ticket.images)
                ticket.outcome = {name: values[start:end] for name, values in outputs.items()}
                start = end
        except BaseException as failure:  # noqa: BLE001 - raised again by each of them
            for ticket in party:
                ticket.outcome = failure
        with self._changes:
            self._running.discard(first.network.name)
            self._call_next()
        for ticket in party[1:]:
            ticket.called.set()
        self._watch(first.network.name, time.perf_counter() - began)
