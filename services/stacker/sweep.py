"""The sweeper: rings again for what was left behind, and empties what has been kept long enough."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from services.analysis.blobs import BlobStore
from services.analysis.doorbell import Doorbell
from services.analysis.record import AnalysisRecord
from services.analysis.states import STAGES
from services.stacker.retention import delete_past_retention

#: Analyses handled in one sweep: one sweep must end before the next begins.
SWEEP_LIMIT = 200
#: Messages in a queue up to which the sweeper rings. Beyond that workers have enough to hear, and ringing again for a
#: long backlog every few seconds would fill Redis: what is due stays due.
RING_UP_TO = 200

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sweeper:
    """What the sweeper works with; any number of them may sweep at once."""

    record: AnalysisRecord
    blobs: BlobStore
    doorbell: Doorbell
    image_retention_h: float
    result_retention_d: float

    def sweep(self) -> None:
        """One look at everything that is due. This is idempotent."""
        self._ring_for_what_is_due()
        delete_past_retention(self.record, self.blobs, self.image_retention_h, self.result_retention_d)

    def _ring_for_what_is_due(self) -> None:
        rung = 0
        for stage in STAGES:
            room = RING_UP_TO - self.doorbell.depth(stage)
            due = self.record.take_due(min(room, SWEEP_LIMIT), (stage,)) if room > 0 else ()
            for _, analysis_id in due:
                self.doorbell.ring(stage, analysis_id)
            rung += len(due)
        if rung:
            _log.info("rang again", analyses=rung)
