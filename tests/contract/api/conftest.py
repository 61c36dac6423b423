"""A gateway whose parts are all away: what it says about itself does not depend on them."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from services.analysis.results import NETWORKS
from services.analysis.settings import load_settings
from services.gateway.app import create_app


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    folder: Path = tmp_path_factory.mktemp("gateway")
    return create_app(
        load_settings(
            {
                "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nowhere",
                "REDIS_URL": "redis://127.0.0.1:9/0",
                "DATA_DIR": str(folder),
                "MODELS_DIR": str(folder),
                **{f"{name.upper()}_SERVING_URL": "127.0.0.1:9" for name in NETWORKS},
            }
        )
    )


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
