"""One analysis through the stacker."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from services.analysis.blobs import BlobStore
from services.analysis.circuits import Circuits
from services.analysis.errors import BlobMissingError, ServiceUnavailableError
from services.analysis.metrics import NetworkMetrics, StageInHand, StageMetrics, in_hand
from services.analysis.record import Exhausted, Lease, Leases
from services.analysis.results import NETWORKS, Reason, Result
from services.analysis.states import STACK
from services.analysis.telemetry import log_id
from services.stacker.drift import Drift
from services.stacker.look import Unanswered, look
from services.stacker.out_of_distribution import Familiarity
from services.stacker.shadow import Seen, Shadow
from services.stacker.stacking import Stack
from serving.answers import Ensemble, NetworkAnswer

#: Seconds until the first retry when a network did not answer, and by how much each further wait is longer: together
#: 20 s, in which a model server that died has been started again and has warmed up.
FIRST_RETRY_S = 4.0
RETRY_FACTOR = 4
#: Seconds until an analysis is looked at again that waits for an open circuit, or for a part that was away.
POSTPONED_S = 2.0
#: Seconds a network may take to say whether it is there again.
STATUS_WITHIN_S = 1.0

IMAGE_MISSING = Reason(
    code="image_missing",
    sentence="The stored photograph was no longer there. Please upload it again.",
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stacker:
    """What one stacker process works with."""

    record: Leases
    blobs: BlobStore
    networks: Ensemble
    stack: Stack
    familiarity: Familiarity | None
    deadline_s: float
    lease_s: float
    max_deliveries: int
    #: None: every network is asked every time.
    circuits: Circuits | None = None
    stages: StageMetrics | None = None
    metrics: NetworkMetrics | None = None
    drift: Drift | None = None
    #: None: nobody is asked beside the networks that answer.
    shadow: Shadow | None = None

    def stack_analysis(self, analysis_id: uuid.UUID) -> None:
        """Asks the four networks and records the result. This is idempotent.

        A network that does not answer costs a delivery and a retry; when none is left the analysis fails with the
        name of that network. While a network's circuit is open the analysis waits, and nothing is spent on it; a part
        that is away costs no delivery either. Anything unexpected gives the lease back and is raised again.
        """
        with in_hand(self.stages, STACK.name) as stage:
            self._stack_analysis(analysis_id, stage)

    def _stack_analysis(self, analysis_id: uuid.UUID, stage: StageInHand) -> None:
        away = self.circuits.open_now(lambda: self.networks.readiness(STATUS_WITHIN_S)) if self.circuits else ()
        if away and self.record.postpone(analysis_id, STACK, POSTPONED_S):
            _log.info("waits for networks", analysis=log_id(analysis_id), networks=away)
            return
        lease = self.record.claim(analysis_id, STACK, self.lease_s, self.max_deliveries)
        if isinstance(lease, Exhausted):
            stage.ended("failed", lease.reason.code)
            _log.error("analysis failed", analysis=log_id(analysis_id), code=lease.reason.code)
        if not isinstance(lease, Lease):
            return
        seen: list[Seen] = []
        try:
            outcome = self._look(lease, seen)
        except ServiceUnavailableError:
            self.record.retry_later(lease, POSTPONED_S, counted=False)
            raise
        except Exception:
            self.record.retry_later(lease, _backoff_s(lease))
            raise
        try:
            self._record(lease, outcome)
        finally:
            self._count_calls(lease, outcome)
            # Whatever the answer is; and nobody waits for it.
            for one in seen:
                self._watch_answers(one.answers)
        self._count(lease, outcome, stage)
        if self.shadow is not None and isinstance(outcome, Result):
            self.shadow.show(seen[0], outcome)

    def _look(self, lease: Lease, seen: list[Seen]) -> Result | Reason | Unanswered:
        try:
            tensor = self.blobs.get_tensor(lease.analysis_id)
        except BlobMissingError:
            return IMAGE_MISSING

        def watch(looked_at: NDArray[np.uint8], answers: Sequence[NetworkAnswer]) -> None:
            seen.append(Seen(looked_at, tuple(answers), lease.turns, lease.age_years))

        return look(
            tensor,
            self.networks,
            self.stack,
            self.familiarity,
            self.deadline_s if lease.time_left_s is None else min(self.deadline_s, lease.time_left_s),
            force=lease.force,
            turns=lease.turns,
            watch=watch,
            explain=lease.explain,
            age_years=lease.age_years,
        )

    def _count_calls(self, lease: Lease, outcome: Result | Reason | Unanswered) -> None:
        """Tells the circuits who answered. Nobody waits for that, so it comes after the outcome is recorded.

        That a network was too slow is not said of it where the analysis had less time left than a network is given.
        """
        if self.circuits is None or outcome is IMAGE_MISSING:
            return
        failures = outcome.failures if isinstance(outcome, Unanswered) else ()
        hurried = lease.time_left_s is not None and lease.time_left_s < self.deadline_s
        unanswered = {failure.name for failure in failures if not (hurried and failure.code == "DEADLINE_EXCEEDED")}
        self.circuits.record(set(NETWORKS) - {failure.name for failure in failures}, unanswered)

    def _watch_answers(self, answers: Sequence[NetworkAnswer]) -> None:
        """Compares the picture with the training images, whatever the answer will be."""
        if self.metrics is None or self.familiarity is None:
            return
        embedding = next(answer.embedding for answer in answers if answer.name == self.familiarity.network)
        if embedding is None:
            return
        # A difference, for both are logits, of either sign.
        self.metrics.strangeness.observe(float(self.familiarity.score(embedding[:1])[0]) - self.familiarity.threshold)
        score = self.drift.add(embedding[0]) if self.drift is not None else None
        if score is not None:
            self.metrics.drift.set(score)

    def _count(self, lease: Lease, outcome: Result | Reason | Unanswered, stage: StageInHand) -> None:
        if isinstance(outcome, Result):
            stage.ended("done")
        elif isinstance(outcome, Unanswered):
            if lease.delivery < self.max_deliveries:
                stage.ended("retried")
            else:
                stage.ended("failed", outcome.reason.code)
        else:
            stage.ended("failed" if outcome is IMAGE_MISSING else "rejected", outcome.code)
        if self.metrics is None:
            return
        if isinstance(outcome, Result):
            self.metrics.probability.observe(outcome.probability)
            self.metrics.answers.labels(outcome.band.value).inc()
        elif isinstance(outcome, Unanswered):
            for failure in outcome.failures:
                self.metrics.failures.labels(failure.name, failure.code).inc()

    def _record(self, lease: Lease, outcome: Result | Reason | Unanswered) -> None:
        log = _log.bind(analysis=log_id(lease.analysis_id), delivery=lease.delivery)
        if isinstance(outcome, Result):
            self.record.finish(lease, outcome)
            log.info("done", band=outcome.band.value, model=outcome.model_version)
        elif isinstance(outcome, Unanswered):
            networks = {failure.name: failure.code for failure in outcome.failures}
            if lease.delivery < self.max_deliveries:
                self.record.retry_later(lease, _backoff_s(lease))
                log.warning("networks did not answer, trying again", networks=networks)
            else:
                self.record.fail(lease, outcome.reason)
                log.error("networks did not answer, giving up", networks=networks)
        elif outcome is IMAGE_MISSING:
            self.record.fail(lease, outcome)
            log.error("the prepared image is gone")
        else:
            self.record.reject(lease, outcome)
            log.info("rejected", code=outcome.code)


def _backoff_s(lease: Lease) -> float:
    return float(FIRST_RETRY_S * RETRY_FACTOR ** (lease.delivery - 1))
