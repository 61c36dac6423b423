"""The bare engine: the networks in this process, without queue, database and gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent import futures
from pathlib import Path

from serving.embedded.engine import arrange, usable_cores
from serving.embedded.lanes import Lanes
from serving.in_process import LocalEnsemble


class SharedEnsemble(LocalEnsemble):
    """A `LocalEnsemble` that several clients ask at once, in the model server's lanes: one alone leaves them empty
    whenever it stacks what the networks said.
    """

    def __init__(
        self, folder: Path, versions: Mapping[str, int], precision: str, calibrated: Path | None, clients: int
    ) -> None:
        """As `LocalEnsemble`; compiled for pairs from the first one on. `clients`: as many ask at once at most."""
        super().__init__(folder, versions, precision, calibrated, pairs_after=1)
        self._lanes = Lanes(arrange(usable_cores(), len(versions)).lanes, queue=clients)
        self._threads = futures.ThreadPoolExecutor(len(versions) * clients, "network")
