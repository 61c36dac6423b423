"""Clients that each send one request after another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.measuring import Name, quantile, taking_turns

#: Turns of each contestant: what a machine loses or gains in the meantime meets all of them.
STRETCHES = 2


@dataclass(frozen=True, slots=True)
class Load:
    """What clients got in `seconds`: how long each answer took that came meanwhile.

    `sent` are all requests, with those at the edges that do not count.
    """

    seconds: float = 0.0
    took: tuple[float, ...] = ()
    sent: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(self.seconds + other.seconds, self.took + other.took, self.sent + other.sent)

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return len(self.took) / self.seconds

    @property
    def p50_s(self) -> float:
        """Seconds that half of the answers took at most; all the time there was where none came."""
        return quantile(self.took or (self.seconds,), 0.5)

    @property
    def p95_s(self) -> float:
        """Seconds that 95 of 100 answers took at most."""
        return quantile(self.took or (self.seconds,), 0.95)


def in_stretches(contestants: Mapping[Name, Callable[[], Load]]) -> dict[Name, Load]:
    """What each contestant's clients got in its turns together."""
    return {name: sum(got, Load()) for name, got in taking_turns(contestants, STRETCHES).items()}


def throughput(send: Callable[[], object], clients: int, seconds: float) -> Load:
    """What `clients` get, each sending its next request when it has the answer.

    Counted are the answers that came within `seconds`, after a start that does not count. A failure ends the run.
    """
    answered: list[tuple[float, float]] = []
    failures: list[BaseException] = []
    start = threading.Barrier(clients + 1)
    stop = threading.Event()

    def client() -> None:
        try:
            send()
            start.wait()
            while not stop.is_set():
                sent = time.perf_counter()
                send()
                answered.append((sent, time.perf_counter()))
        except threading.BrokenBarrierError:
            return
        except BaseException as failure:  # noqa: BLE001 - told to whoever asked
            failures.append(failure)
            start.abort()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        start.wait()
        begin = time.perf_counter()
        time.sleep(seconds)
        end = time.perf_counter()
    except threading.BrokenBarrierError:
        begin = end = 0.0
    stop.set()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    took = tuple(now - sent for sent, now in answered if begin <= now <= end)
    return Load(end - begin, took, sent=len(answered) + clients)
