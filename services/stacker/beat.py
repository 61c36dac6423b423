r"""Composition root of the beat where memory counts: the schedule alone, without what the tasks need.

    python -m celery -A services.stacker.beat beat --loglevel WARNING --pidfile=

It sends tasks by name; the stacker's worker has them. `-A services.stacker.worker beat` does the same in 40 MB more.
"""

from __future__ import annotations

from typing import Any

from celery.signals import setup_logging

from services.analysis.doorbell import make_celery
from services.analysis.settings import load_settings
from services.analysis.telemetry import configure_logging

settings = load_settings()
app = make_celery(settings, "stacker")


@setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    configure_logging(settings, "stacker")
