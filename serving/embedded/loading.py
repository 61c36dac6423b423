"""From folders to networks that are warm."""

import gc
import logging
from collections.abc import Callable, Collection
from concurrent import futures
from pathlib import Path

import openvino

from services.analysis.allocator import give_back_unused
from serving.embedded.engine import PAIRS_PAY_AFTER, Engine
from serving.embedded.precision import Source
from serving.embedded.versions import Network

log = logging.getLogger(__name__)


def load(
    networks: Collection[Network],
    threads: int,
    cores: int,
    is_stopping: Callable[[], bool],
    find: Callable[[str, int, Path], Source] | None = None,
    *,
    pairs_after: int = PAIRS_PAY_AFTER,
) -> None:
    """Compile and warm up every version, `cores` networks at once: compiling one keeps about one core busy.

    `find` tells where a version is read from when it is not computed in f32: (network, version, folder) → Source.
    `pairs_after`: how many pairs of images a network has seen when it is compiled for pairs, too.

    Begins no further network once `is_stopping`. Raises SettingsError for a model that cannot be served.
    """
    core = openvino.Core()

    def load_one(network: Network) -> None:
        if is_stopping():
            return
        network.load(
            lambda name, version, folder: Engine(
                name,
                version,
                folder,
                core,
                threads,
                source=find(name, version, folder) if find else None,
                pairs_after=pairs_after,
            )
        )
        log.info("%s: versions %s, labels %s", network.name, network.versions, network.labels)

    with futures.ThreadPoolExecutor(cores, "load") as loaders:
        for loaded in [loaders.submit(load_one, network) for network in networks]:
            loaded.result()
    # What loading left over goes back to the operating system: the parsed graphs, a quarter of the process.
    gc.collect()
    give_back_unused()
