"""What the workers tell Prometheus: how long stages and networks take, what was answered, and how far it drifts.

Every process counts into files of its own below `PROMETHEUS_MULTIPROC_DIR`, and whoever is asked adds them up: the
gateway where all run on one machine, each worker at `METRICS_PORT` where they run in containers. Labels hold names and
codes, never ids. Metrics are made after the fork, by the composition root.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY, Collector

from services.analysis.results import NETWORKS, Band
from services.analysis.states import PREPARE, STACK, STAGES

#: Seconds. A stage takes tenths of a second when all is well, and at most its task's time limit of 12 s.
STAGE_BUCKETS_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)
#: Seconds. One network takes hundredths of a second; its deadline is 8 s.
NETWORK_BUCKETS_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24)
#: Probabilities. Most lesions are benign, so the low end is resolved more finely.
PROBABILITY_BUCKETS = (0.02, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

#: Of a logit and of a probability, to both sides of no difference.
LOGIT_DIFFERENCES = (-4.0, -2.0, -1.0, -0.5, -0.2, -0.05, 0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
PROBABILITY_DIFFERENCES = (-0.5, -0.2, -0.1, -0.05, -0.02, -0.005, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5)
#: Of a logit: most lesions lie 5 to 10 below the limit, and it is its neighbourhood that says whether it still fits.
STRANGENESS_DIFFERENCES = (-12.0, -8.0, -6.0, -4.0, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0)

#: How a stage may end.
OUTCOMES = ("done", "rejected", "failed", "retried", "error")
#: Codes of the reasons for which each stage may fail.
FAILURES = {
    PREPARE.name: ("delivered_too_often", "out_of_time", "image_missing"),
    STACK.name: ("delivered_too_often", "out_of_time", "image_missing", "network_unavailable"),
}


def shared_folder() -> Path | None:
    """The folder that the processes of this machine or container count in, made if need be; None: each for itself."""
    named = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not named:
        return None
    folder = Path(named)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def shared_registry() -> CollectorRegistry:
    """What all processes counted together; without a shared folder what this one did."""
    folder = shared_folder()
    if folder is None:
        return REGISTRY
    _forget_gauges_of_the_dead(folder)
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return together


def _forget_gauges_of_the_dead(folder: Path) -> None:
    """A killed process cannot take its gauges back itself. Counts stay: they happened."""
    for file in folder.glob("gauge_live*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not Path("/proc", pid).exists() and Path("/proc/self").exists():
            file.unlink(missing_ok=True)


class _Together(Collector):
    """Everything counted in the shared folder, read anew at each scrape."""

    def collect(self) -> Iterator[Any]:
        yield from shared_registry().collect()


class MetricsPort:
    """Where a worker answers Prometheus, for itself and its children."""

    def __init__(self) -> None:
        self._server: Any = None

    def open(self, port: int) -> None:
        """Listen at `port`; at 0 do not."""
        if port:
            registry = CollectorRegistry()
            registry.register(_Together())
            self._server, _ = start_http_server(port, registry=registry)

    def leave(self) -> None:
        """Give up, in a forked child, the socket that it inherited, so that the port ends with its owner."""
        if self._server is not None:
            self._server.socket.close()


class StageMetrics:
    """Seconds and outcomes of the stages. One for each process: a metric may be made only once."""

    def __init__(self) -> None:
        shared_folder()
        self._seconds = Histogram(
            "lesionlens_stage_seconds",
            "Seconds a worker had an analysis in hand, by how the stage ended.",
            ["stage", "outcome"],
            buckets=STAGE_BUCKETS_S,
        )
        self._rejections = Counter("lesionlens_rejections_total", "Analyses rejected, by reason.", ["stage", "reason"])
        self._failures = Counter("lesionlens_failures_total", "Analyses failed, by reason.", ["stage", "reason"])
        for stage in STAGES:
            for outcome in OUTCOMES:
                self._seconds.labels(stage.name, outcome)
            # From 0 on: what begins at 1 has not increased, and nobody would be told of a first failure.
            for reason in FAILURES[stage.name]:
                self._failures.labels(stage.name, reason)

    @contextmanager
    def stage(self, stage: str) -> Iterator[StageInHand]:
        """Counts what happens inside; an error that is raised counts as `error`."""
        in_hand = StageInHand()
        began = time.perf_counter()
        try:
            yield in_hand
        except BaseException:
            in_hand.outcome = "error"
            raise
        finally:
            if in_hand.outcome is not None:
                self._seconds.labels(stage, in_hand.outcome).observe(time.perf_counter() - began)
                if in_hand.outcome == "rejected":
                    self._rejections.labels(stage, in_hand.reason).inc()
                elif in_hand.outcome == "failed":
                    self._failures.labels(stage, in_hand.reason).inc()


@contextmanager
def in_hand(metrics: StageMetrics | None, stage: str) -> Iterator[StageInHand]:
    """`metrics.stage(stage)`, or where nobody counts something to talk to all the same."""
    if metrics is None:
        yield StageInHand()
    else:
        with metrics.stage(stage) as begun:
            yield begun


class StageInHand:
    """How one stage of one analysis ended; with `outcome` None there was nothing to do."""

    outcome: str | None = None
    reason: str = ""

    def ended(self, outcome: str, reason: str = "") -> None:
        """Say how, one of `OUTCOMES`, and for a refusal the code of its reason."""
        self.outcome, self.reason = outcome, reason


class NetworkMetrics:
    """The four networks and what came out of them. One for each process of the stacker."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        shared_folder()
        self.seconds = Histogram(
            "lesionlens_network_seconds",
            "Seconds from asking a network to its answer or failure.",
            ["network"],
            buckets=NETWORK_BUCKETS_S,
            registry=registry,
        )
        self.failures = Counter(
            "lesionlens_network_failures_total",
            "Calls without a usable answer, by gRPC code.",
            ["network", "code"],
            registry=registry,
        )
        self.probability = Histogram(
            "lesionlens_probability",
            "Calibrated probabilities answered.",
            buckets=PROBABILITY_BUCKETS,
            registry=registry,
        )
        self.answers = Counter("lesionlens_answers_total", "Answers, by risk band.", ["band"], registry=registry)
        self.strangeness = Histogram(
            "lesionlens_strangeness_logit_difference",
            "Logit of a picture being no lesion, less the limit: above 0 it is refused.",
            buckets=STRANGENESS_DIFFERENCES,
            registry=registry,
        )
        self.drift = Gauge(
            "lesionlens_drift_score",
            "How far the recent pictures' mean lies from the training images'; 1 is what chance alone gives.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        for network in NETWORKS:
            self.seconds.labels(network)
            self.failures.labels(network, "UNAVAILABLE")
            self.failures.labels(network, "DEADLINE_EXCEEDED")
        for band in Band:
            self.answers.labels(band.value)


class ShadowMetrics:
    """What the networks in the shadow would have answered. One for each process of the stacker."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        shared_folder()
        self.answers = Counter(
            "lesionlens_shadow_answers_total",
            "What the networks in the shadow would have answered, beside what was answered.",
            ["band", "shadow_band"],
            registry=registry,
        )
        self.failures = Counter(
            "lesionlens_shadow_failures_total",
            "Analyses that the networks in the shadow could not answer.",
            registry=registry,
        )
        self.skipped = Counter(
            "lesionlens_shadow_skipped_total",
            "Analyses that the shadow was not shown, because it was still busy with an earlier one.",
            registry=registry,
        )
        self.logits = Histogram(
            "lesionlens_shadow_logit_difference",
            "Malignant logit of a network in the shadow, less the one that was answered from.",
            ["network"],
            buckets=LOGIT_DIFFERENCES,
            registry=registry,
        )
        self.probability = Histogram(
            "lesionlens_shadow_probability_difference",
            "Probability that the shadow would have answered, less the one that was answered.",
            buckets=PROBABILITY_DIFFERENCES,
            registry=registry,
        )
