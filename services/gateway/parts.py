"""The parts one gateway process works with, and where they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Engine

from services.analysis.audit import AuditLog
from services.analysis.blobs import BlobStore, S3Access
from services.analysis.circuits import Circuits
from services.analysis.database import make_engine
from services.analysis.dead_letters import DeadLetters
from services.analysis.doorbell import Doorbell, make_celery
from services.analysis.keys import KeyRing
from services.analysis.record import AnalysisRecord
from services.analysis.sealing import sealing_from
from services.analysis.settings import Settings
from services.analysis.webhooks import WebhookBook
from services.gateway.changes import Changes
from services.gateway.door import Door
from services.gateway.metrics import Metrics
from services.gateway.models import ModelCatalogue
from services.gateway.readiness import Readiness
from serving.client import RemoteEnsemble


class Networks(Protocol):
    """The four networks as far as the gateway is concerned."""

    def readiness(self, timeout_s: float) -> Mapping[str, bool]:
        """Which networks answer now."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the routes and pages work with: `current_app.extensions["lesionlens"]`.

    `record` shows what somebody without an API key may see; `api.requests.gateway` widens it for the holder of one.
    """

    settings: Settings
    engine: Engine
    record: AnalysisRecord
    keys: KeyRing
    webhooks: WebhookBook
    blobs: BlobStore
    doorbell: Doorbell
    door: Door
    changes: Changes
    readiness: Readiness
    models: ModelCatalogue
    metrics: Metrics
    audit: AuditLog

    def drain(self) -> None:
        """Begins the end of this process: no longer ready, and nobody is kept waiting."""
        self.readiness.drain()
        self.changes.stop()


def blob_store_url(settings: Settings) -> str:
    """Where blobs are kept: the setting, or a folder below the data folder."""
    return settings.blob_store_url or (settings.data_dir.absolute() / "blobs").as_uri()


def make_parts(settings: Settings, networks: Networks | None = None) -> Gateway:
    """The real parts. Nothing connects yet; call it after the fork."""
    # One connection for each thread that is not a long poll, which holds none while it waits.
    engine = make_engine(settings.database_url, pool_size=max(4, settings.gateway_threads // 2))
    record = AnalysisRecord(engine).on_behalf_of(None)
    sealing = sealing_from(settings.blob_keys)
    blobs = BlobStore(blob_store_url(settings), sealing, S3Access.of(settings))
    doorbell = Doorbell(make_celery(settings, "gateway"), settings.redis_url)
    return Gateway(
        settings=settings,
        engine=engine,
        record=record,
        keys=KeyRing(engine),
        webhooks=WebhookBook(engine, sealing),
        blobs=blobs,
        doorbell=doorbell,
        door=Door(record.pressure, settings.max_waiting, settings.max_waiting_s),
        changes=Changes(settings.database_url, max_waiters=max(1, settings.gateway_threads // 2)),
        readiness=Readiness(engine, doorbell, blobs, networks or RemoteEnsemble(settings.serving_addresses())),
        models=ModelCatalogue(settings.models_dir),
        audit=AuditLog(engine),
        metrics=Metrics(
            record, DeadLetters(engine), Circuits(engine, settings.circuit_failures, settings.circuit_open_s)
        ),
    )
