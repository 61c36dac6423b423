"""Logs that name an analysis without giving away its id, which is the permission to read it."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

from services.analysis import tracing
from services.analysis.errors import LeaseLostError, ServiceUnavailableError
from services.analysis.settings import Settings

#: Hexadecimal digits of an id that may stand in a log: 32 bits tell analyses apart, and open none of them.
LOGGED_ID_DIGITS = 8

#: What is this project's own in a log; only that may be told in detail.
OWN_LOGGERS = ("services", "serving", "lesionlens")
#: Celery says "Task … received/succeeded" with the whole id in it; ids are capabilities and stay out of logs. The beat
#: says every two seconds that it beats, and the worker that a sweep came too late to matter. Flask-Limiter names the
#: address of whoever asked too often.
_TOLD_TOO_MUCH = (
    "celery.worker.strategy", "celery.app.trace", "celery.worker.request", "celery.beat", "flask-limiter",
)  # fmt: skip


def log_id(analysis_id: uuid.UUID | str) -> str:
    """The beginning of an id, fit for a log line."""
    return str(analysis_id)[:LOGGED_ID_DIGITS]


@contextmanager
def expected_failures_in_one_line(task: str, headers: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Logs what a worker must expect (a part is away, the lease is lost) without a traceback, and goes on.

    Nothing is lost by going on: the record still says what is to be done, and the sweeper rings for it. `headers` are
    the message's: the task belongs to the trace that they name.
    """
    try:
        with tracing.entered(task, "consumer", (headers or {}).get(tracing.HEADER)):
            yield
    except ServiceUnavailableError as error:
        structlog.get_logger(__name__).warning("left for the sweeper", task=task, because=error.detail)
    except LeaseLostError:
        structlog.get_logger(__name__).info("thrown away: deleted meanwhile, or taken over", task=task)


def configure_logging(settings: Settings, service: str) -> None:
    """Sends structlog's and the standard library's records to stderr in one format. Call once per process."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor
    if settings.log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    # Below INFO libraries tell what passes through them: Celery's pool whole ids, Pillow what a file's metadata say.
    root.setLevel(max(level, logging.INFO))
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
    for name in _TOLD_TOO_MUCH:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    structlog.contextvars.bind_contextvars(service=service)
