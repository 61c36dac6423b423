"""What gunicorn serves: `gunicorn --config python:services.gateway.gunicorn services.gateway.wsgi:app()`."""

from __future__ import annotations

from flask import Flask

from services.analysis import tracing
from services.analysis.allocator import keep_freed_memory
from services.analysis.settings import load_settings
from services.analysis.telemetry import configure_logging
from services.gateway.app import create_app


def app() -> Flask:
    """The application of this worker process, made from the environment after the fork."""
    keep_freed_memory()
    settings = load_settings()
    configure_logging(settings, "gateway")
    tracing.start(settings, "gateway")
    return create_app(settings)
