r"""Composition root of the preprocessor's worker.

    python -m celery -A services.preprocessor.worker worker --queues preprocess --concurrency 1 \
        --hostname preprocessor@%h --loglevel INFO --without-gossip --without-mingle --without-heartbeat

Nothing connects at import. Engine and blob store are made in the child, at its start, never before the fork.
"""

from __future__ import annotations

import gc
import uuid
from functools import cache
from typing import Any

import cv2
from celery.signals import setup_logging, worker_before_create_process, worker_process_init, worker_ready

from services.analysis import tracing
from services.analysis.allocator import keep_freed_memory
from services.analysis.blobs import BlobStore, S3Access
from services.analysis.database import make_engine
from services.analysis.doorbell import Doorbell, make_celery
from services.analysis.metrics import MetricsPort, StageMetrics
from services.analysis.record import Leases
from services.analysis.sealing import sealing_from
from services.analysis.settings import PREPARATION_LIMIT_S, load_settings
from services.analysis.states import PREPARE
from services.analysis.telemetry import configure_logging, expected_failures_in_one_line
from services.preprocessor import confined
from services.preprocessor.prepare_analysis import Preprocessor

#: Seconds after the soft limit the process is killed, when a C function does not listen to it.
KILL_AFTER_S = 3
#: Seconds one photograph may take: 12 megapixels take well under one, so this one is stuck.
TIME_LIMIT_S = PREPARATION_LIMIT_S - KILL_AFTER_S

settings = load_settings()
app = make_celery(settings, "preprocessor")
metrics_port = MetricsPort()


@cache
def _preprocessor() -> Preprocessor:
    return Preprocessor(
        record=Leases(make_engine(settings.database_url, pool_size=1)),
        blobs=BlobStore(settings.blob_store_url, sealing_from(settings.blob_keys), S3Access.of(settings)),
        doorbell=Doorbell(app, settings.redis_url),
        lease_s=settings.lease_s,
        max_deliveries=settings.max_deliveries,
        metrics=StageMetrics(),
    )


@app.task(name=PREPARE.task, bind=True, soft_time_limit=TIME_LIMIT_S, time_limit=PREPARATION_LIMIT_S)
def prepare_analysis_task(self: Any, analysis_id: str) -> None:
    """Prepares one analysis."""
    with expected_failures_in_one_line(PREPARE.task, self.request.headers):
        _preprocessor().prepare_analysis(uuid.UUID(analysis_id))


@worker_before_create_process.connect
def _share_memory(**_: Any) -> None:
    # What stays is taken out of the garbage collector's sight: its marks would have each child copy all of it.
    gc.collect()
    gc.freeze()


@worker_process_init.connect
def _make_parts(**_: Any) -> None:
    # One process works on one image; OpenCV's own threads would only compete with the networks for the cores.
    cv2.setNumThreads(1)
    confined.start()
    keep_freed_memory()
    metrics_port.leave()
    tracing.start(settings, "preprocessor")
    _preprocessor()


@worker_ready.connect
def _answer_prometheus(**_: Any) -> None:
    metrics_port.open(settings.metrics_port)


@setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    configure_logging(settings, "preprocessor")
