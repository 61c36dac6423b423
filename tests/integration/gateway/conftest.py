"""A gateway on a real PostgreSQL, a real Valkey and a folder of blobs. No worker runs: tests move the record."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from sqlalchemy import Engine, create_engine, text
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from services.analysis.database import make_engine
from services.analysis.migrations import migrate
from services.analysis.record import AnalysisRecord
from services.analysis.results import CLASSES, NETWORKS, Band, NetworkOpinion, Reason, Result
from services.analysis.settings import Settings, load_settings
from services.analysis.states import PREPARE, STACK, Stage
from services.gateway.app import create_app
from services.gateway.parts import Gateway, make_parts

RESULT = Result(
    probability=0.34,
    band=Band.UNSURE,
    networks=tuple(
        NetworkOpinion(name, 1, logit, float(1 / (1 + np.exp(-logit))))
        for name, logit in zip(NETWORKS, (-0.5, 0.25, 1.5, -2.0), strict=True)
    ),
    classes=tuple(zip(CLASSES, (0.2, 0.5, 0.1, 0.05, 0.1, 0.03, 0.02), strict=True)),
    attention=tuple(tuple((row * 7 + column) / 48 for column in range(7)) for row in range(7)),
    model_version="1",
)
PREPARATION = {
    "hair_share": 0.01,
    "mask_share": 0.2,
    "source_size": [320, 240],
    "frame": {"left": 0.1, "top": 0.2, "side": 0.5},
    "quality": {},
    "concerns": [{"code": "glare", "sentence": "There is glare on the skin.", "soft": True}],
}
BLURRED = Reason("blurred", "The photograph is blurred. Hold the phone still and take it again.")


@dataclass
class FakeNetworks:
    """Says what it is told to about the four networks, which no test here asks for anything else."""

    answers: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(NETWORKS, True))

    def readiness(self, timeout_s: float) -> dict[str, bool]:
        assert timeout_s > 0
        return self.answers


class Workers:
    """Does the workers' part of the record, one step at a time."""

    def __init__(self, record: AnalysisRecord) -> None:
        self._record = record

    def begin(self, analysis_id: uuid.UUID, stage: Stage):
        return self._record.claim(analysis_id, stage, lease_s=60, max_deliveries=3)

    def prepare(self, analysis_id: uuid.UUID) -> None:
        self._record.advance(self.begin(analysis_id, PREPARE), PREPARATION)

    def finish(self, analysis_id: uuid.UUID, result: Result = RESULT) -> None:
        self.prepare(analysis_id)
        self._record.finish(self.begin(analysis_id, STACK), result)

    def reject(self, analysis_id: uuid.UUID) -> None:
        self._record.reject(self.begin(analysis_id, PREPARE), BLURRED)


def photograph(kind: str = "JPEG", size: tuple[int, int] = (320, 240), seed: int = 1, **options: object) -> bytes:
    """An image file of random skin-coloured pixels."""
    pixels = np.random.default_rng(seed).integers(120, 230, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def gateway_database(postgres_server: str) -> str:
    """URL of one migrated database for all tests of the gateway: making one takes longer than most of them."""
    admin = create_engine(
        postgres_server.replace("postgresql://", "postgresql+psycopg2://"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE gateway"))
    admin.dispose()
    url = postgres_server.replace("/postgres?", "/gateway?")
    engine = make_engine(url)
    migrate(engine)
    engine.dispose()
    return url


@pytest.fixture
def postgres_url(gateway_database: str) -> Iterator[str]:
    """URL of an empty database, to which nothing from an earlier test is connected any more."""
    yield gateway_database
    engine = make_engine(gateway_database)
    with engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
        connection.execute(
            text(
                "TRUNCATE batch, analysis, prediction, feedback, webhook, webhook_delivery, api_key,"
                " dead_letter, circuit"
            )
        )
    engine.dispose()


@pytest.fixture
def settings(postgres_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return load_settings(
        {
            "DATABASE_URL": postgres_url,
            "REDIS_URL": redis_url,
            "DATA_DIR": str(tmp_path / "data"),
            "MODELS_DIR": str(tmp_path / "models"),
            "GATEWAY_THREADS": "4",
        }
    )


@pytest.fixture
def networks() -> FakeNetworks:
    return FakeNetworks()


@pytest.fixture
def parts(settings: Settings, networks: FakeNetworks) -> Iterator[Gateway]:
    parts = make_parts(settings, networks)
    yield parts
    parts.drain()
    parts.engine.dispose()


@pytest.fixture
def app(settings: Settings, parts: Gateway) -> Flask:
    return create_app(settings, parts)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def workers(engine: Engine) -> Workers:
    return Workers(AnalysisRecord(engine))


@pytest.fixture
def upload(client: FlaskClient) -> Callable[..., TestResponse]:
    """Sends one photograph."""

    def send(
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        fields: dict[str, str] | None = None,
        name: str = "IMG_4711_Jane_Doe.jpg",
    ) -> TestResponse:
        image = FileStorage(io.BytesIO(photograph() if data is None else data), name)
        # As bytes: the test client would write a large form to a temporary file and leave it open.
        boundary, body = encode_multipart({"image": image, **(fields or {})})
        kind = f"multipart/form-data; boundary={boundary}"
        return client.post("/v1/analyses", data=body, content_type=kind, headers=headers or {})

    return send


@pytest.fixture
def blobs_stored(settings: Settings) -> Callable[[], list[Path]]:
    """Files in the blob store now."""

    def look() -> list[Path]:
        return sorted(path for path in (settings.data_dir / "blobs").rglob("*") if path.is_file())

    return look
