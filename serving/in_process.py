"""The networks in this process: the same engines and lanes as the embedded model server, without gRPC.

`lesionlens classify` uses it. The floats are those the embedded server answers with.
"""

import time
from collections.abc import Mapping
from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serving.answers import EVERYTHING, NETWORKS, NetworkAnswer, NetworkFailure, longest_first, read_answer
from serving.embedded.engine import arrange, usable_cores
from serving.embedded.lanes import Lanes, Unanswered
from serving.embedded.loading import load
from serving.embedded.precision import Precision, sources
from serving.embedded.versions import Network, Policy, open_network

#: Pairs of images after which a network is compiled for two at once: a thousand photographs for the DenseNets, which
#: look twice. These networks are loaded for a folder and not for days.
_PAIRS_PAY_AFTER = 1_000

#: Requests of one network that may wait: those of the one ask_all under way.
_QUEUE = 1


class LocalEnsemble:
    """The networks in the sub-folders of `folder`, loaded and warm once constructed. Asked by one thread at a time."""

    def __init__(
        self,
        folder: Path,
        versions: Mapping[str, int] | None = None,
        precision: str = Precision.F32,
        calibrated: Path | None = None,
        pairs_after: int = _PAIRS_PAY_AFTER,
    ) -> None:
        """`versions`: network name → version, in the order of the answers; the newest of each network when not given.

        `precision` and `calibrated`, the folder that `lesionlens calibrate` wrote: see `serving.embedded.precision`.
        `pairs_after`: see `serving.embedded.engine`.

        Raises SettingsError for a folder or version that is not there or cannot be served, or a precision that is not
        offered.
        """
        wanted = {name: frozenset({version}) for name, version in (versions or {}).items()}
        self._networks = [
            open_network(name, folder / name, wanted.get(name, Policy.LATEST), {}) for name in wanted or NETWORKS
        ]
        cores = usable_cores()
        arrangement = arrange(cores, len(self._networks))
        self._lanes = Lanes(arrangement.lanes, _QUEUE)
        find = sources(Precision(precision), calibrated, folder)
        load(self._networks, arrangement.threads, cores, is_stopping=lambda: False, find=find, pairs_after=pairs_after)
        self._threads = futures.ThreadPoolExecutor(len(self._networks), "network")

    def ask_all(
        self, tensor: NDArray[np.uint8], deadline_s: float, shown: Mapping[str, int] = EVERYTHING
    ) -> tuple[NetworkAnswer | NetworkFailure, ...]:
        """Ask every network about `tensor` (uint8 [n,224,224,3], RGB); one answer or failure each, in order.

        `shown`: of how many images a network sees only the first; one that is not named sees all.
        The deadline is looked at between images: an inference that has begun ends.
        """
        end = time.monotonic() + deadline_s
        networks = {network.name: network for network in self._networks}
        counts = {name: shown.get(name, len(tensor)) for name in networks}
        asked = {
            name: self._threads.submit(self._ask, networks[name], tensor[: counts[name]], end)
            for name in longest_first(counts)
        }
        return tuple(asked[name].result() for name in networks)

    def readiness(self, timeout_s: float) -> dict[str, bool]:  # noqa: ARG002 - nothing to wait for in one process
        """Which networks are loaded: all."""
        return {network.name: True for network in self._networks}

    def settle(self) -> None:
        """Wait until nothing is being prepared any more: for whoever measures."""
        for network in self._networks:
            for engine in network.engines.values():
                engine.settle()

    def close(self) -> None:
        """End the threads and let the networks go."""
        self._threads.shutdown()
        self.settle()
        self._networks.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, network: Network, tensor: NDArray[Any], end: float) -> NetworkAnswer | NetworkFailure:
        engine = network.engines[network.versions[-1]]

        def in_time() -> bool:
            return time.monotonic() < end

        outputs = self._lanes.run(engine, tensor, in_time)
        if isinstance(outputs, Unanswered):
            return NetworkFailure(engine.name, "DEADLINE_EXCEEDED", f"{engine.name} was not done by the deadline")
        return read_answer(engine.name, engine.version, outputs, len(tensor))
