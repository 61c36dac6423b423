"""Five times as many uploads as can be worked through, for two minutes: `make overload`.

What is accepted is finished, what is refused is refused at once, and no process grows. One table; exit status 0 when
all of that held.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redis
import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.conftest import free_port, lesion_photograph
from tests.e2e.product import Product, eventually, running

#: Places in line: few, so that they are taken within seconds.
MAX_WAITING = 50
TIMES = 5
#: Seconds a refusal may take, for all but one in a hundred.
REFUSAL_P99_S = 0.2
#: Share by which a process may be larger at the end than after its first quarter.
GROWTH = 0.15
#: Seconds in which what was accepted must be finished.
DRAIN_S = 240
THREADS = 64
PROGRAMS = ("gateway", "preprocessor", "stacker", "beat", "networks", "valkey", "postgres")


@dataclass
class Seen:
    """What the senders saw."""

    accepted: list[str] = field(default_factory=list)
    refusals_s: list[float] = field(default_factory=list)
    retry_after_s: list[int] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def send(product: Product, image: bytes, seen: Seen) -> None:
    begin = time.monotonic()
    try:
        response = product.upload(image, force="true")
    except requests.RequestException as error:
        seen.others[type(error).__name__] += 1
        return
    took_s = time.monotonic() - begin
    if response.status_code == 202:
        seen.accepted.append(response.json()["id"])
    elif response.status_code == 503 and response.json()["type"] == "/problems/too-much-waiting":
        seen.refusals_s.append(took_s)
        seen.retry_after_s.append(int(response.headers["Retry-After"]))
    else:
        seen.others[str(response.status_code)] += 1


def capacity_per_s(product: Product, image: bytes) -> float:
    """Analyses finished in a second when there are always some waiting."""
    seen = Seen()
    begin = time.monotonic()
    for _ in range(MAX_WAITING * 4 // 5):
        send(product, image, seen)
    for analysis_id in seen.accepted:
        product.ended(analysis_id)
    return len(seen.accepted) / (time.monotonic() - begin)


class Scales:
    """Weighs every program with all its processes, every few seconds."""

    def __init__(self, product: Product) -> None:
        self.megabytes: dict[str, list[float]] = defaultdict(list)
        self.messages: list[int] = []
        self._product = product
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._weigh_on)
        valkey = psutil.Process(product.pid_of("stacker")).environ()["REDIS_URL"]
        self._queue = redis.Redis.from_url(valkey)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._queue.close()

    def _weigh_on(self) -> None:
        while not self._stop.wait(3):
            for name in PROGRAMS:
                self.megabytes[name].append(self._weight(name))
            self.messages.append(sum(int(self._queue.llen(name)) for name in ("preprocess", "stack")))

    def _weight(self, name: str) -> float:
        process = psutil.Process(self._product.pid_of(name))
        # What a process has for itself: the shared pages of a database would be counted once for each connection.
        weight = 0
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error, OSError):  # it may end while it is weighed
                weight += one.memory_full_info().uss
        return weight / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    given = parser.parse_args()
    image = lesion_photograph(1)
    with (
        tempfile.TemporaryDirectory(prefix="ll-load-") as folder,
        running(Product(Path(folder) / "data", free_port(), MAX_WAITING=str(MAX_WAITING))) as product,
    ):
        product.ended(product.accepted(image, force="true"))
        capacity = capacity_per_s(product, image)
        scales, seen = Scales(product), Seen()
        sent = _flood(product, image, seen, TIMES * capacity, given.seconds)
        scales.stop()
        states = Counter(eventually(lambda one=one: _end_of(product, one), DRAIN_S) for one in seen.accepted)
    return _report(given.seconds, capacity, sent, seen, scales, states)


def _end_of(product: Product, analysis_id: str) -> str:
    state = product.analysis(analysis_id)["state"]
    return state if state in ("done", "rejected", "failed") else ""


def _flood(product: Product, image: bytes, seen: Seen, per_s: float, seconds: float) -> int:
    begin, sent = time.monotonic(), 0
    with ThreadPoolExecutor(THREADS) as pool:
        while (at_s := time.monotonic() - begin) < seconds:
            while sent < at_s * per_s:
                pool.submit(send, product, image, seen)
                sent += 1
            time.sleep(0.01)
    return sent


def _report(seconds: float, capacity: float, sent: int, seen: Seen, scales: Scales, states: Counter[str]) -> int:
    refusals = sorted(seen.refusals_s) or [0.0]
    p50, p99 = statistics.median(refusals), refusals[int(0.99 * (len(refusals) - 1))]
    complaints = [f"answers: {dict(seen.others)}"] if seen.others else []
    if p99 > REFUSAL_P99_S:
        complaints.append(f"p99 of the refusals is {p99 * 1000:.0f} ms")
    if set(states) - {"done"}:
        complaints.append(f"ends: {dict(states)}")
    rows = ["| program | MB after a quarter | MB at the end | most |", "| --- | ---: | ---: | ---: |"]
    for name, weights in scales.megabytes.items():
        early, late = weights[len(weights) // 4], weights[-1]
        rows.append(f"| {name} | {early:.0f} | {late:.0f} | {max(weights):.0f} |")
        if late > early * (1 + GROWTH) + 5:
            complaints.append(f"{name} grew from {early:.0f} to {late:.0f} MB")
    retry = sorted(seen.retry_after_s) or [0]
    sys.stdout.write(
        "\n".join(rows) + f"\n\ncapacity {capacity:.1f}/s; {sent} sent in {seconds:.0f} s ({sent / seconds:.1f}/s);"
        f" {len(seen.accepted)} accepted, all of them {dict(states)}; {len(seen.refusals_s)} refused,"
        f" p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, Retry-After {retry[0]} to {retry[-1]} s"
        f" (median {retry[len(retry) // 2]}); at most {max(scales.messages)} messages in Valkey\n"
    )
    for complaint in complaints:
        sys.stdout.write(f"NOT AS PROMISED: {complaint}\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
