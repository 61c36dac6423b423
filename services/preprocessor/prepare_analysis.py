"""One analysis through the preprocessor."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from services.analysis import tracing
from services.analysis.blobs import BlobStore
from services.analysis.doorbell import Doorbell
from services.analysis.errors import (
    BlobMissingError,
    DoorbellUnavailableError,
    LeaseLostError,
    ServiceUnavailableError,
)
from services.analysis.metrics import StageInHand, StageMetrics, in_hand
from services.analysis.record import Exhausted, Lease, Leases
from services.analysis.results import Reason
from services.analysis.states import PREPARE, STACK
from services.analysis.telemetry import log_id
from services.preprocessor.confined import prepare_confined
from services.preprocessor.imaging import PreparedLesion, Rejection

#: Seconds until an analysis that met an unexpected error is tried again.
RETRY_S = 1.0
#: Seconds until one is tried again that met a part which was away (a full disk, say).
POSTPONED_S = 2.0

IMAGE_MISSING = Reason(
    code="image_missing",
    sentence="The stored photograph was no longer there. Please upload it again.",
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """What one preprocessor process works with."""

    record: Leases
    blobs: BlobStore
    doorbell: Doorbell
    lease_s: float
    max_deliveries: int
    metrics: StageMetrics | None = None

    def prepare_analysis(self, analysis_id: uuid.UUID) -> None:
        """Prepares the photograph and hands it to the stacker, or rejects it. This is idempotent.

        A part that is away costs no delivery, for it is not the image's fault; anything else unexpected costs one.
        Either gives the lease back, to be tried again, and is raised again.
        """
        with in_hand(self.metrics, PREPARE.name) as stage:
            self._prepare_analysis(analysis_id, stage)

    def _prepare_analysis(self, analysis_id: uuid.UUID, stage: StageInHand) -> None:
        lease = self.record.claim(analysis_id, PREPARE, self.lease_s, self.max_deliveries)
        if isinstance(lease, Exhausted):
            stage.ended("failed", lease.reason.code)
            _log.error("analysis failed", analysis=log_id(analysis_id), code=lease.reason.code)
        if not isinstance(lease, Lease):
            return
        try:
            outcome = self._prepare(lease)
        except ServiceUnavailableError:
            self.record.retry_later(lease, POSTPONED_S, counted=False)
            raise
        except Exception:
            self.record.retry_later(lease, RETRY_S)
            raise
        self._record(lease, outcome)
        if isinstance(outcome, PreparedLesion):
            stage.ended("done")
        else:
            stage.ended("rejected" if isinstance(outcome, Rejection) else "failed", outcome.code)

    def _prepare(self, lease: Lease) -> PreparedLesion | Rejection | Reason:
        try:
            photograph = self.blobs.get_upload(lease.analysis_id)
        except BlobMissingError:
            return IMAGE_MISSING
        with tracing.span("prepare the lesion"):
            outcome = prepare_confined(photograph, force=lease.force)
        if isinstance(outcome, PreparedLesion):
            self.blobs.put_tensor(lease.analysis_id, outcome.tensor)
        return outcome

    def _record(self, lease: Lease, outcome: PreparedLesion | Rejection | Reason) -> None:
        log = _log.bind(analysis=log_id(lease.analysis_id), delivery=lease.delivery)
        if isinstance(outcome, Reason):
            self.record.fail(lease, outcome)
            log.error("the uploaded image is gone")
        elif isinstance(outcome, Rejection):
            self.record.reject(lease, Reason(outcome.code, outcome.sentence))
            log.info("rejected", code=outcome.code)
        else:
            self._hand_over(lease, outcome)
            log.info("prepared", hair_share=round(outcome.hair_share, 4))

    def _hand_over(self, lease: Lease, lesion: PreparedLesion) -> None:
        try:
            self.record.advance(lease, described(lesion))
        except LeaseLostError:
            # Whoever took over may have stored the same pixels already and handed them on. Where the analysis has not
            # ended, whatever ends it later meets ours, too; where it has, nobody else would take them back.
            if not self.record.under_way(lease.analysis_id):
                self.blobs.delete_tensor(lease.analysis_id)
            raise
        try:
            self.doorbell.ring(STACK, lease.analysis_id)
        except DoorbellUnavailableError:
            _log.warning("the queue does not answer; the sweeper will ring", analysis=log_id(lease.analysis_id))


def described(lesion: PreparedLesion) -> Mapping[str, Any]:
    """What the record keeps about the preparation: measures and advice, no pixels."""
    return {
        "hair_share": lesion.hair_share,
        "mask_share": lesion.mask_share,
        "source_size": list(lesion.source_size),
        "frame": asdict(lesion.frame),
        "quality": asdict(lesion.quality),
        "concerns": [asdict(concern) for concern in lesion.concerns],
    }
