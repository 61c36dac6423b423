"""Clients that each send one request after another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.measuring import quantile


@dataclass(frozen=True, slots=True)
class Load:
    """What clients got: answers a second, and the seconds that half and 95 of 100 of them took at most.

    `sent` are all requests, with those at the edges that do not count.
    """

    per_s: float
    p50_s: float
    p95_s: float
    sent: int


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
    took = [now - sent for sent, now in answered if begin <= now <= end]
    if not took:
        return Load(0.0, seconds, seconds, sent=len(answered) + clients)
    return Load(len(took) / (end - begin), quantile(took, 0.5), quantile(took, 0.95), sent=len(answered) + clients)
