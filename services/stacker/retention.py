"""Deletes what has been kept long enough: photographs after hours, results after days.

The sweep does a part of it every few seconds. `python -m services.stacker.retention` does all of it at once, for a
CronJob: the promise to delete should not hang on one beat.
"""

from __future__ import annotations

import sys

import structlog

from services.analysis.blobs import BlobStore, S3Access
from services.analysis.database import make_engine
from services.analysis.errors import ServiceUnavailableError
from services.analysis.record import AnalysisRecord
from services.analysis.settings import load_settings
from services.analysis.telemetry import configure_logging

#: Analyses handled at once: a sweep must end before the next begins.
AT_ONCE = 200


def delete_past_retention(record: AnalysisRecord, blobs: BlobStore, image_h: float, result_d: float) -> int:
    """Deletes at most `AT_ONCE` photographs and as many results; how many it were. This is idempotent."""
    deleted = 0
    for analysis_id in record.images_past_retention(image_h, AT_ONCE):
        blobs.delete(analysis_id)
        record.images_deleted(analysis_id)
        deleted += 1
    for analysis_id in record.results_past_retention(result_d, AT_ONCE):
        blobs.delete(analysis_id)
        record.delete(analysis_id)
        deleted += 1
    return deleted


def main() -> int:
    """All that is due now; 0, or 1 after one log line that says which part was away."""
    settings = load_settings()
    configure_logging(settings, "retention")
    record = AnalysisRecord(make_engine(settings.database_url, pool_size=1))
    blobs = BlobStore(settings.blob_store_url, s3=S3Access.of(settings))
    log, total = structlog.get_logger(__name__), 0
    try:
        while deleted := delete_past_retention(record, blobs, settings.image_retention_h, settings.result_retention_d):
            total += deleted
    except ServiceUnavailableError as error:
        log.warning("left for the next time", because=error.detail, deleted=total)
        return 1
    log.info("deleted what was kept long enough", deleted=total)
    return 0


if __name__ == "__main__":
    sys.exit(main())
