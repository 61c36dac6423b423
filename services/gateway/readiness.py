"""Whether an upload accepted now would be answered: every part it passes is asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Engine

from services.analysis.blobs import BlobStore
from services.analysis.database import database_answers
from services.analysis.doorbell import Doorbell
from services.analysis.results import NETWORKS

#: Seconds an answer is reused: many probes at once must not become many questions.
CACHE_S = 1.0
#: Seconds a network may take to say that it is there; Kubernetes' own probe gives up after a second by default.
NETWORK_TIMEOUT_S = 0.8


class AskableNetworks(Protocol):
    """What is asked about the four networks."""

    def readiness(self, timeout_s: float) -> Mapping[str, bool]:
        """Which networks answer now."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Which parts answered, by name."""

    parts: Mapping[str, bool]

    @property
    def ready(self) -> bool:
        """Whether all of them did."""
        return all(self.parts.values())


class Readiness:
    """Asks every part, at most once a second."""

    def __init__(self, engine: Engine, doorbell: Doorbell, blobs: BlobStore, networks: AskableNetworks) -> None:
        self._engine = engine
        self._doorbell = doorbell
        self._blobs = blobs
        self._networks = networks
        self._lock = threading.Lock()
        self._last: tuple[float, Ready] | None = None
        self._draining = False

    def drain(self) -> None:
        """From now on not ready, so that nothing new is sent here."""
        self._draining = True

    def ask(self) -> Ready:
        """What answered, at most `CACHE_S` seconds ago. Callers at the same time share one round of questions."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > CACHE_S:
                self._last = (time.monotonic(), self._ask_now())
            answer = self._last[1]
        return Ready({**answer.parts, "accepting": False}) if self._draining else answer

    def _ask_now(self) -> Ready:
        # At once: a part that does not answer costs its own timeout, not the sum of all.
        with ThreadPoolExecutor(max_workers=4) as pool:
            database = pool.submit(database_answers, self._engine)
            doorbell = pool.submit(self._doorbell.answers)
            blobs = pool.submit(self._blobs.answers)
            networks = pool.submit(self._networks.readiness, NETWORK_TIMEOUT_S)
            answered = networks.result()
            return Ready(
                {
                    "database": database.result(),
                    "doorbell": doorbell.result(),
                    "blob_store": blobs.result(),
                    **{name: bool(answered.get(name, False)) for name in NETWORKS},
                }
            )
