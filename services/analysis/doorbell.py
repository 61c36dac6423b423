"""The doorbell: Celery on Redis, carrying ids and nothing else.

Every setting below answers a known trap (docs/adr/0004-postgres-is-the-truth.md): no result backend, late
acknowledgement, no hoarding, and a visibility timeout far above the longest task, because the record's leases, not
Redis, decide who may work on an analysis.
"""

from __future__ import annotations

import uuid

import redis
from celery import Celery
from kombu.exceptions import OperationalError as BrokerError

from services.analysis import tracing
from services.analysis.errors import DoorbellUnavailableError
from services.analysis.settings import Settings
from services.analysis.states import Stage

#: Seconds until Redis gives an unacknowledged message to another worker. Far above any task: the sweeper is quicker.
VISIBILITY_TIMEOUT_S = 3600
#: Seconds to wait for Redis on one command.
SOCKET_TIMEOUT_S = 3.0
#: Seconds a worker that was told to drop what it holds (SIGQUIT, Ctrl-C twice) may still go on with it. On SIGTERM it
#: finishes that, whatever this says, and the tasks' own limits hold until then.
SOFT_SHUTDOWN_S = 8.0

SWEEP_QUEUE = "sweep"
SWEEP_TASK = "lesionlens.sweep"
ORPHANS_TASK = "lesionlens.sweep_orphans"
#: Seconds between two looks for blobs that no row wants: they are rare, and the store is listed for it.
ORPHANS_INTERVAL_S = 3600.0


def make_celery(settings: Settings, service: str) -> Celery:
    """The Celery application of one service. Does not connect."""
    app = Celery(
        f"lesionlens-{service}",
        broker=settings.redis_url,
        set_as_current=False,
        task_cls="services.analysis.acknowledging:ListeningTask",
    )
    app.conf.update(
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        # With late acknowledgement: as many messages as processes, and none that waits in a busy worker.
        worker_prefetch_multiplier=1,
        # What is under way goes on when Redis goes: the lease keeps it from being done twice. Cancelling ends the
        # process in the middle of its work, and Celery 5.6 then gave one of the new processes no task any more.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=SOFT_SHUTDOWN_S,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": SOCKET_TIMEOUT_S,
            "socket_keepalive": True,
        },
        beat_schedule={
            "sweep": {
                "task": SWEEP_TASK,
                "schedule": settings.sweep_interval_s,
                # A sweep that waited longer than one interval has been overtaken by the next one.
                "options": {"queue": SWEEP_QUEUE, "expires": settings.sweep_interval_s},
            },
            "sweep-orphans": {
                "task": ORPHANS_TASK,
                "schedule": ORPHANS_INTERVAL_S,
                "options": {"queue": SWEEP_QUEUE, "expires": ORPHANS_INTERVAL_S},
            },
        },
        # The schedule is this constant: nothing is worth remembering between two starts.
        beat_scheduler="celery.beat:Scheduler",
        timezone="UTC",
    )
    return app


class Doorbell:
    """Rings for an analysis. Call `ring` only after the row is committed."""

    def __init__(self, celery: Celery, redis_url: str) -> None:
        self._celery = celery
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=SOCKET_TIMEOUT_S, socket_connect_timeout=SOCKET_TIMEOUT_S
        )

    def ring(self, stage: Stage, analysis_id: uuid.UUID) -> None:
        """Tells the workers of `stage` that the analysis waits for them.

        Raises:
            DoorbellUnavailableError: Redis did not take the message; the sweeper will ring instead.
        """
        try:
            with tracing.span(f"ring {stage.name}", "producer"):
                sent = tracing.traceparent()
                headers = {tracing.HEADER: sent} if sent else {}
                self._celery.send_task(
                    stage.task, args=[str(analysis_id)], queue=stage.queue, retry=False, headers=headers
                )
        except (BrokerError, redis.RedisError, OSError) as error:
            raise DoorbellUnavailableError("The queue does not answer.") from error

    def answers(self) -> bool:
        """Whether Redis answers a PING now."""
        try:
            return bool(self._redis.ping())
        except (redis.RedisError, OSError):
            return False

    def depth(self, stage: Stage) -> int:
        """How many messages wait for `stage` (not how many analyses: the record knows that)."""
        try:
            return int(self._redis.llen(stage.queue))
        except (redis.RedisError, OSError) as error:
            raise DoorbellUnavailableError("The queue does not answer.") from error
