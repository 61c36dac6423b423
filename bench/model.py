"""How many images a second do N workers get through, and how long does one take? A simulation of docs/scaling.md.

    python -m bench.model --clients 8 --preprocessors 2 --stackers 2 --cores 2

Closed loop: each client sends its next photograph when it has its answer. A stage holds one of its workers for as long
as the photograph is in it. What is being computed shares the cores fairly (processor sharing), and a task never uses
more than one of them. The networks are tasks of the stacking stage: at most as many at once as there are lanes, the
longest first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.measuring import quantile
from serving.answers import PROCESSOR_TIME

#: Photographs that one stacker can be busy with (`services.stacker.__main__.CONCURRENCY`).
STACKER_PROCESSES = 2
#: Photographs that are simulated, and of the first ones those that do not count.
IMAGES, SETTLING = 2_000, 200


@dataclass(frozen=True, slots=True)
class Costs:
    """Core-seconds of one photograph, measured by `make bench` (section way). `other` runs beside: database, queue."""

    gateway: float
    preprocessor: float
    stacker: float
    networks: tuple[float, ...]
    other: float

    @property
    def total(self) -> float:
        """Core-seconds of one photograph together: its reciprocal times the cores is what no arrangement exceeds."""
        return self.gateway + self.preprocessor + self.stacker + sum(self.networks) + self.other


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Workers of each stage, replicas of the model server, and the cores that all of them share.

    A stacker has two processes: two photographs can be in its stage at once.
    """

    preprocessors: int
    stackers: int
    replicas: int
    cores: float
    lanes: int = 2


@dataclass(slots=True)
class _Image:
    sent: float
    networks: list[float] = field(default_factory=list)
    under_way: int = 0


@dataclass(slots=True)
class _Task:
    image: _Image
    kind: str
    left: float


def simulate(costs: Costs, arrangement: Arrangement, clients: int) -> tuple[float, float, float]:
    """Photographs a second, and the seconds that half and 95 of 100 of them take at most."""
    return _Simulation(costs, arrangement).run(clients)


class _Simulation:
    def __init__(self, costs: Costs, arrangement: Arrangement) -> None:
        self._costs = costs
        self._at = arrangement
        self._now = 0.0
        self._running: list[_Task] = []
        self._waiting: Mapping[str, deque[_Image]] = {"preprocessor": deque(), "stacker": deque()}
        self._free = {"preprocessor": arrangement.preprocessors, "stacker": arrangement.stackers * STACKER_PROCESSES}
        self._lanes = arrangement.lanes * arrangement.replicas
        self._calls: list[tuple[float, float, _Image]] = []
        self._took: list[float] = []
        self._ended: list[float] = []

    def run(self, clients: int) -> tuple[float, float, float]:
        for _ in range(clients):
            self._send()
        while len(self._took) < IMAGES:
            rate = min(1.0, self._at.cores / len(self._running))
            soonest = min(task.left for task in self._running)
            self._now += soonest / rate
            for task in self._running:
                task.left -= soonest
            over = [task for task in self._running if task.left <= 1e-12]
            self._running = [task for task in self._running if task.left > 1e-12]
            for task in over:
                self._after(task)
        took = self._took[SETTLING:]
        seconds = self._ended[-1] - self._ended[SETTLING - 1]
        return len(took) / seconds, quantile(took, 0.5), quantile(took, 0.95)

    def _send(self) -> None:
        # What the database and the queue do for a photograph is counted with the gateway's part of the way.
        self._running.append(_Task(_Image(self._now), "gateway", self._costs.gateway + self._costs.other))

    def _after(self, task: _Task) -> None:
        image = task.image
        if task.kind == "gateway":
            self._enter("preprocessor", image)
        elif task.kind == "preprocessor":
            self._leave("preprocessor")
            self._enter("stacker", image)
        elif task.kind == "stacker":
            image.under_way = len(self._costs.networks)
            # Due at its arrival less the time it takes, as the lanes of the model server have it.
            self._calls += [(self._now - seconds, seconds, image) for seconds in self._costs.networks]
            self._fill_lanes()
        else:
            self._lanes += 1
            image.under_way -= 1
            self._fill_lanes()
            if image.under_way == 0:
                self._leave("stacker")
                self._took.append(self._now - image.sent)
                self._ended.append(self._now)
                self._send()

    def _enter(self, stage: str, image: _Image) -> None:
        self._waiting[stage].append(image)
        self._begin(stage)

    def _leave(self, stage: str) -> None:
        self._free[stage] += 1
        self._begin(stage)

    def _begin(self, stage: str) -> None:
        while self._free[stage] and self._waiting[stage]:
            self._free[stage] -= 1
            image = self._waiting[stage].popleft()
            self._running.append(_Task(image, stage, getattr(self._costs, stage)))

    def _fill_lanes(self) -> None:
        while self._lanes and self._calls:
            next_call = min(self._calls, key=lambda call: call[0])
            self._calls.remove(next_call)
            self._lanes -= 1
            self._running.append(_Task(next_call[2], "network", next_call[1]))


def costs_from(way: Mapping[str, object]) -> Costs:
    """The costs that the section `way` of a bench.json holds."""
    measured = way["core_ms_per_upload"]
    assert isinstance(measured, Mapping)
    seconds = {name: float(value) / 1000 for name, value in measured.items()}
    sides = way["sides_looked_at"]
    assert isinstance(sides, Mapping)
    took = [count * PROCESSOR_TIME[name] for name, count in sides.items()]
    named = ("gateway", "gateway's cells", "preprocessor", "preprocessor's cell", "stacker", "networks")
    return Costs(
        gateway=seconds.get("gateway", 0) + seconds.get("gateway's cells", 0),
        preprocessor=seconds.get("preprocessor", 0) + seconds.get("preprocessor's cell", 0),
        stacker=seconds.get("stacker", 0),
        networks=tuple(seconds["networks"] * one / sum(took) for one in took),
        other=sum(value for name, value in seconds.items() if name not in named),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate one arrangement, and write what it predicts as a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.model", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "bench.json")
    for name, default in (("clients", 8), ("preprocessors", 1), ("stackers", 1), ("replicas", 1), ("lanes", 2)):
        parser.add_argument(f"--{name}", type=int, default=default, help="(default: %(default)s)")
    parser.add_argument("--cores", type=float, default=2.0, help="(default: %(default)s)")
    given = parser.parse_args(arguments)
    costs = costs_from(json.loads(given.results.read_text())["way"])
    at = Arrangement(given.preprocessors, given.stackers, given.replicas, given.cores, given.lanes)
    rate, half, most = simulate(costs, at, given.clients)
    predicted = {"images_per_s": round(rate, 2), "p50_s": round(half, 3), "p95_s": round(most, 3)}
    sys.stdout.write(json.dumps({**predicted, "no_arrangement_exceeds": round(at.cores / costs.total, 2)}) + "\n")


if __name__ == "__main__":
    main()
