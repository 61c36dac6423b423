"""What the gateway tells Prometheus. With several processes they share files (`PROMETHEUS_MULTIPROC_DIR`)."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.analysis.circuits import Circuits, CircuitState
from services.analysis.dead_letters import DeadLetters
from services.analysis.errors import DatabaseUnavailableError
from services.analysis.metrics import shared_folder, shared_registry
from services.analysis.record import Workload

#: Seconds. Polls take milliseconds, uploads tenths, long polls up to 25 seconds.
DURATION_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


_CIRCUIT_VALUES = {CircuitState.CLOSED: 0.0, CircuitState.HALF_OPEN: 0.5, CircuitState.OPEN: 1.0}


class _BacklogCollector(Collector):
    """Asks the record at every scrape; says nothing while the database is away."""

    def __init__(self, record: Workload, dead_letters: DeadLetters, circuits: Circuits) -> None:
        self._record = record
        self._dead_letters = dead_letters
        self._circuits = circuits

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("lesionlens_backlog_analyses", "Analyses that wait for a stage.", labels=["stage"])
        oldest = GaugeMetricFamily(
            "lesionlens_backlog_oldest_seconds", "How long the oldest of them has waited.", labels=["stage"]
        )
        unseen = GaugeMetricFamily(
            "lesionlens_dead_letters", "Analyses that failed on our side and were not tried again."
        )
        circuits = GaugeMetricFamily(
            "lesionlens_circuit_open",
            "1: the network is not asked for a while, having left calls unanswered; 0.5: it may try; 0: it is asked.",
            labels=["network"],
        )
        try:
            backlog = self._record.backlog()
            unseen.add_metric([], self._dead_letters.count())
            for network, state in self._circuits.states().items():
                circuits.add_metric([network], _CIRCUIT_VALUES[state])
        except DatabaseUnavailableError:
            return
        for entry in backlog:
            waiting.add_metric([entry.stage.name], entry.waiting)
            oldest.add_metric([entry.stage.name], entry.oldest_s)
        yield waiting
        yield oldest
        yield unseen
        yield circuits


class Metrics:
    """Counters and histograms of one gateway. Labels hold routes and codes, never ids."""

    def __init__(self, record: Workload, dead_letters: DeadLetters, circuits: Circuits) -> None:
        shared_folder()
        self._registry = CollectorRegistry()
        self._backlog = _BacklogCollector(record, dead_letters, circuits)
        self.requests = Counter(
            "lesionlens_http_requests_total",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self.durations = Histogram(
            "lesionlens_http_request_duration_seconds",
            "Seconds from the request to its answer.",
            ["method", "route"],
            buckets=DURATION_BUCKETS_S,
            registry=self._registry,
        )
        self.uploads_accepted = Counter(
            "lesionlens_uploads_accepted_total", "Photographs accepted.", registry=self._registry
        )
        self.uploads_refused = Counter(
            "lesionlens_uploads_refused_total",
            "Photographs refused, by reason.",
            ["reason"],
            registry=self._registry,
        )

    def exposition(self) -> bytes:
        """The metrics of all processes in Prometheus' text format."""
        own = generate_latest(self._registry if shared_folder() is None else shared_registry())
        backlog = CollectorRegistry()
        backlog.register(self._backlog)
        return own + generate_latest(backlog)
