"""Composition root of the stacker's worker and of the beat.

    python -m services.stacker                                  # waits for the networks, checks versions, then works
    celery -A services.stacker.worker beat                      # sends a sweep every SWEEP_INTERVAL_S seconds

Nothing connects at import. Channels, engine and blob store are made in the child, at its start, never before the fork.
"""

from __future__ import annotations

import gc
import math
import uuid
from dataclasses import dataclass
from functools import cache
from typing import Any

from celery.signals import setup_logging, worker_before_create_process, worker_process_init, worker_ready

from services.analysis import tracing
from services.analysis.allocator import keep_freed_memory
from services.analysis.audit import AuditLog
from services.analysis.blobs import BlobStore, S3Access
from services.analysis.circuits import Circuits
from services.analysis.database import make_engine
from services.analysis.doorbell import ORPHANS_TASK, SWEEP_TASK, Doorbell, make_celery
from services.analysis.metrics import MetricsPort, NetworkMetrics, ShadowMetrics, StageMetrics
from services.analysis.record import AnalysisRecord
from services.analysis.sealing import sealing_from
from services.analysis.settings import load_settings
from services.analysis.states import STACK
from services.analysis.telemetry import configure_logging, expected_failures_in_one_line
from services.stacker.drift import Drift
from services.stacker.orphans import SWEEP_WITHIN_S, OrphanSweeper
from services.stacker.out_of_distribution import familiarity_from
from services.stacker.shadow import shadow_from
from services.stacker.stack_analysis import Stacker
from services.stacker.stacking import STACK_FILE, load_stack
from services.stacker.sweep import Sweeper
from services.stacker.watched import CallsWatched
from serving.client import RemoteEnsemble

#: Seconds beyond the networks' deadline that one analysis may take: two database transactions and one blob.
MARGIN_S = 4
#: Seconds later the process is killed, when a C function does not listen to the soft limit.
KILL_AFTER_S = 2

settings = load_settings()
TIME_LIMIT_S = math.ceil(settings.network_deadline_s) + MARGIN_S
app = make_celery(settings, "stacker")
metrics_port = MetricsPort()


@dataclass(frozen=True, slots=True)
class _Parts:
    stacker: Stacker
    sweeper: Sweeper
    orphans: OrphanSweeper
    audit: AuditLog


@cache
def _parts() -> _Parts:
    engine = make_engine(settings.database_url, pool_size=1)
    record = AnalysisRecord(engine)
    blobs = BlobStore(settings.blob_store_url, sealing_from(settings.blob_keys), S3Access.of(settings))
    stack = load_stack(settings.models_dir / STACK_FILE)
    familiarity = familiarity_from(stack.out_of_distribution)
    metrics = NetworkMetrics()
    return _Parts(
        Stacker(
            record=record,
            blobs=blobs,
            networks=RemoteEnsemble(settings.serving_addresses(), versions=stack.versions, watch=CallsWatched(metrics)),
            stack=stack,
            familiarity=familiarity,
            circuits=Circuits(engine, settings.circuit_failures, settings.circuit_open_s),
            deadline_s=settings.network_deadline_s,
            lease_s=settings.lease_s,
            max_deliveries=settings.max_deliveries,
            stages=StageMetrics(),
            metrics=metrics,
            drift=Drift(familiarity) if familiarity else None,
            shadow=shadow_from(settings, stack, ShadowMetrics()),
        ),
        Sweeper(
            record=record,
            blobs=blobs,
            doorbell=Doorbell(app, settings.redis_url),
            image_retention_h=settings.image_retention_h,
            result_retention_d=settings.result_retention_d,
        ),
        OrphanSweeper(record=record, blobs=blobs),
        AuditLog(engine),
    )


@app.task(name=STACK.task, bind=True, soft_time_limit=TIME_LIMIT_S, time_limit=TIME_LIMIT_S + KILL_AFTER_S)
def stack_analysis_task(self: Any, analysis_id: str) -> None:
    """Stacks one analysis."""
    with expected_failures_in_one_line(STACK.task, self.request.headers):
        _parts().stacker.stack_analysis(uuid.UUID(analysis_id))


#: A sweep touches at most a few hundred rows and blobs; one that takes longer than this meets a store that hangs.
SWEEP_LIMIT_S = 30


@app.task(name=SWEEP_TASK, soft_time_limit=SWEEP_LIMIT_S, time_limit=SWEEP_LIMIT_S + 5)
def sweep_task() -> None:
    """Rings again for what was left behind."""
    with expected_failures_in_one_line(SWEEP_TASK):
        _parts().sweeper.sweep()


#: Seconds beyond its own limit that a sweep of orphans may take: it ends between two chunks.
ORPHANS_MARGIN_S = 60


@app.task(
    name=ORPHANS_TASK,
    soft_time_limit=SWEEP_WITHIN_S + ORPHANS_MARGIN_S,
    time_limit=SWEEP_WITHIN_S + ORPHANS_MARGIN_S + 5,
)
def sweep_orphans_task() -> None:
    """Deletes blobs that no row wants, and lines of the audit log whose time is over."""
    with expected_failures_in_one_line(ORPHANS_TASK):
        _parts().orphans.sweep()
        _parts().audit.forget(settings.audit_retention_d)


@worker_before_create_process.connect
def _share_memory(**_: Any) -> None:
    # What stays is taken out of the garbage collector's sight: its marks would have each child copy all of it.
    gc.collect()
    gc.freeze()


@worker_process_init.connect
def _make_parts(**_: Any) -> None:
    keep_freed_memory()
    metrics_port.leave()
    tracing.start(settings, "stacker")
    _parts()


@worker_ready.connect
def _answer_prometheus(**_: Any) -> None:
    metrics_port.open(settings.metrics_port)


@setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    configure_logging(settings, "stacker")
