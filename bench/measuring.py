"""Taking turns: what else the machine does, it does to all contestants."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

#: A contestant's turn: seconds it took.
Turn = Callable[[], float]

Name = TypeVar("Name", bound=Hashable)
Got = TypeVar("Got")

#: Seconds between two turns, in which the threads of the one before come to rest.
REST_S = 0.2
#: Draws who follows whom. While the order only rotated, two names of one engine were up to a third apart.
_ORDER_SEED = 20261127


def timed(function: Callable[[], object]) -> Turn:
    """A turn that is one call of `function`."""

    def turn() -> float:
        begin = time.perf_counter()
        function()
        return time.perf_counter() - begin

    return turn


def warmed(turn: Turn) -> Turn:
    """The turn after one that does not count.

    After a rest and the turns of all others, neither caches nor clocks are a contestant's own: a first pass costs each
    of them some milliseconds, which says nothing about its engine and weighs most on the quickest.
    """

    def again() -> float:
        turn()
        return turn()

    return again


def in_turns(contestants: Mapping[str, Turn], rounds: int) -> dict[str, float]:
    """Median seconds of each contestant, after one turn that does not count."""
    for turn in contestants.values():
        turn()
    return {name: statistics.median(seconds) for name, seconds in taking_turns(contestants, rounds).items()}


def taking_turns(contestants: Mapping[Name, Callable[[], Got]], rounds: int) -> dict[Name, list[Got]]:
    """What each contestant's turns gave.

    Each round has the contestants in an order drawn anew, so that nobody always follows the one that heats the caches.
    Before each turn all rest: the threads of TensorFlow and ONNX Runtime go on spinning on the cores after their work
    is done, and who came next paid for it with up to twice the time.
    """
    names = list(contestants)
    got: dict[Name, list[Got]] = {name: [] for name in names}
    order = np.random.default_rng(_ORDER_SEED)
    for _ in range(rounds):
        for name in (names[place] for place in order.permutation(len(names))):
            time.sleep(REST_S)
            got[name].append(contestants[name]())
    return got


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed (nearest rank)."""
    ranked = sorted(values)
    # Rounded first: 0.95 × 100 is a hair more than 95.
    return ranked[max(0, math.ceil(round(share * len(ranked), 9)) - 1)]


def ms(seconds: float) -> float:
    """Milliseconds, to a hundredth."""
    return round(seconds * 1000, 2)
