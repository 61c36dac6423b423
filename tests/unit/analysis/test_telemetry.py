"""A log line tells analyses apart without opening them."""

from __future__ import annotations

import io
import logging
import uuid
from collections.abc import Iterator

import pytest
import structlog
from celery.concurrency.base import BasePool
from flask import Flask
from PIL import Image

from services.analysis.settings import load_settings
from services.analysis.telemetry import OWN_LOGGERS, configure_logging, log_id
from services.gateway.policy import route_policy
from services.gateway.rate_limits import enforce_limits


def test_a_logged_id_keeps_most_of_its_bits_to_itself() -> None:
    analysis_id = uuid.uuid4()
    assert str(analysis_id).startswith(log_id(analysis_id))
    assert len(log_id(analysis_id)) * 4 <= 32


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """What a test sets up for its process is gone after it."""
    root = logging.getLogger()
    handlers, before, known = root.handlers[:], root.level, dict(logging.root.manager.loggerDict)
    levels = {name: logger.level for name, logger in known.items() if isinstance(logger, logging.Logger)}
    configured = structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(before)
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger):
            logger.setLevel(levels.get(name, logging.NOTSET))
    structlog.configure(**configured)
    structlog.contextvars.clear_contextvars()


@pytest.mark.usefixtures("logging_as_before")
def test_no_library_tells_what_passes_through_it_however_much_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(load_settings({"LOG_LEVEL": "debug"}), "test")
    analysis_id, photograph, metadata = str(uuid.uuid4()), io.BytesIO(), Image.Exif()
    metadata[0x013B] = "Jane Doe"
    Image.new("RGB", (8, 8)).save(photograph, "TIFF", exif=metadata)

    class Pool(BasePool):
        def on_apply(self, *_: object, **__: object) -> None:
            pass

    Pool().apply_async(print, (analysis_id,))
    Image.open(photograph).load()
    logging.getLogger("services.gateway.uploads").debug("ours")

    told = capsys.readouterr().err
    assert "ours" in told
    assert analysis_id not in told
    assert "Jane Doe" not in told


@pytest.mark.usefixtures("logging_as_before")
def test_whoever_asks_too_often_is_not_named(capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_settings({})
    configure_logging(settings, "test")
    app = Flask("limited")

    @app.get("/")
    @route_policy(auth="public", limit="1/minute")
    def index() -> str:
        return ""

    enforce_limits(app, settings)
    asked = [app.test_client().get("/", environ_base={"REMOTE_ADDR": "192.0.2.7"}).status_code for _ in range(2)]

    assert asked == [200, 429]
    assert "192.0.2.7" not in capsys.readouterr().err


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("level", ["DEBUG", "info", "Error"])
def test_what_is_ours_is_told_from_the_level_that_is_set(level: str) -> None:
    configure_logging(load_settings({"LOG_LEVEL": level}), "test")
    assert {logging.getLogger(name).getEffectiveLevel() for name in OWN_LOGGERS} == {getattr(logging, level.upper())}
