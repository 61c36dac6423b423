"""Blobs that no row wants any more, found by going through the store.

Two ways lead there: a gateway that dies between putting a photograph and committing its row, and a worker that stores
its pixels while their analysis is being deleted, and dies before it can take them back. Nothing in the record names
such a blob, so the retention clock cannot find it.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

import structlog

from services.analysis.blobs import BlobStore
from services.analysis.record import Upkeep

#: Seconds a blob is left alone whatever the record says: far longer than an upload takes from its blob to its row.
MARGIN_S = 3600.0
#: Seconds one sweep may take. What is not reached is reached by a later one: each begins at a place of its own.
SWEEP_WITHIN_S = 60

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OrphanSweeper:
    """Lists the store chunk by chunk, so its memory does not grow with the store; any number may sweep at once."""

    record: Upkeep
    blobs: BlobStore
    margin_s: float = MARGIN_S
    within_s: float = SWEEP_WITHIN_S

    def sweep(self) -> int:
        """Deletes orphans older than the margin; how many. This is idempotent."""
        end = time.monotonic() + self.within_s
        deleted = 0
        for listed in self.blobs.older_than(self.margin_s, start=uuid.uuid4()):
            wanted = self.record.with_images([blob.analysis_id for blob in listed if blob.analysis_id is not None])
            for blob in listed:
                if blob.analysis_id not in wanted:
                    self.blobs.delete_listed(blob)
                    deleted += 1
            if listed and time.monotonic() > end:
                _log.info("sweep of orphans goes on next time", deleted=deleted)
                break
        if deleted:
            _log.warning("deleted blobs that no row wanted", blobs=deleted)
        return deleted
