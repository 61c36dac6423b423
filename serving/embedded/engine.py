"""One version of one network, ready to answer: a SavedModel compiled by OpenVINO."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from services.analysis.errors import SettingsError
from serving.embedded.graph import read_graph
from serving.embedded.precision import Source
from serving.embedded.saved_model import signatures_of, warmup_requests
from serving.tensors import TensorRefusal, data_type_name, from_proto
from serving.wire import Message

log = logging.getLogger(__name__)

#: Signature that is asked for when a request names none.
DEFAULT_SIGNATURE = "serving_default"

#: Images in one request at most: 64 take about 10 s on two cores, longer than any caller's deadline.
MAX_BATCH = 64

#: Pairs of images after which a second form of a network, for two at once, is worth the one to two seconds of a core
#: that it takes to compile, and its 20 to 110 MB: it saves 4 % (MobileNet) to 28 % (NASNetMobile) of an image's time.
PAIRS_PAY_AFTER = 64

#: Half-precision weights are widened once; in f32 the answers are those of TensorFlow to 1e-6. Pinning would
#: put every network's threads on the same first cores and let the others idle. One stream, because a network
#: runs one request at a time (`lanes`) and a second stream would only hold a second set of activations.
_OPTIONS = {
    "ENABLE_CPU_PINNING": False,
    "NUM_STREAMS": 1,
    "PERFORMANCE_HINT": "LATENCY",
}


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How the networks share the cores: `lanes` inferences at once, each on `threads` threads."""

    threads: int
    lanes: int


def arrange(cores: int, networks: int) -> Arrangement:
    """The arrangement for `networks` on `cores`.

    Inferences on one thread each waste nothing on waiting for one another, so a core per inference comes
    first; only cores that would be left over become more threads. With four networks on two cores, two lanes of
    one thread took the least processor time and ended an ensemble soonest (measurements in ADR 0003).
    """
    threads = max(1, cores // networks)
    return Arrangement(threads, max(1, cores // threads))


def usable_cores() -> int:
    """Cores this process may use: its affinity, and its container's CPU quota (cgroup v2) where one is set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


class Engine:
    """One version of one network. `infer` may be called by one thread at a time (see `lanes`)."""

    def __init__(
        self,
        name: str,
        version: int,
        folder: Path,
        core: openvino.Core,
        threads: int,
        *,
        source: Source | None = None,
        pairs_after: int = PAIRS_PAY_AFTER,
    ) -> None:
        """Read and compile `folder`, a SavedModel whose default signature has one input with a free first
        axis. `source`: the same network in another precision (f32 of the SavedModel when not given).
        `pairs_after`: how many pairs of images it has seen when it is compiled for pairs, too.

        Raises SettingsError for a model this server cannot serve.
        """
        self.name = name
        self.version = version
        self.folder = folder
        self.signatures = signatures_of(folder)
        if DEFAULT_SIGNATURE not in self.signatures:
            raise SettingsError(f"{folder} has no signature {DEFAULT_SIGNATURE!r}")
        signature = self.signatures[DEFAULT_SIGNATURE]
        if len(signature.inputs) != 1:
            raise SettingsError(f"{folder}: the embedded server serves networks with one input")
        ((self.input_name, info),) = signature.inputs.items()
        self.input_type = info.dtype
        self.image_shape = tuple(dim.size for dim in info.tensor_shape.dim)[1:]
        if not self.image_shape or any(size < 1 for size in self.image_shape):
            raise SettingsError(f"{folder}: every axis of {self.input_name} but the first must have a size")
        self.output_names = tuple(sorted(signature.outputs))
        #: Seconds one image took at the last warm-up run.
        self.expected_s = 0.0
        self._compiled_for: Callable[[int], _Form] = partial(
            _Form, core, source or Source(folder, "f32"), threads, self.output_names
        )
        try:
            self._single = self._compiled_for(1)
        except (RuntimeError, IndexError, ValueError) as error:
            raise SettingsError(f"OpenVINO cannot compile {folder}: {error}") from error
        self._pair: _Form | None = None
        self._pairs_before_it = pairs_after
        self._preparing: threading.Thread | None = None

    def infer(self, images: NDArray[Any], go_on: Callable[[], bool] = lambda: True) -> dict[str, NDArray[Any]]:
        """Every output for `images` ([n, …] of the input's type and shape), each with n as its first axis.

        Two by two, once that has become worth it, which changes answers by rounding at most. When `go_on` turns False
        between two steps (the caller has gone) the answer is empty.
        """
        self._count_pairs(len(images) // 2)
        parts: list[dict[str, NDArray[Any]]] = []
        for form, step in self._steps(images):
            if not go_on():
                return {}
            parts.append(form.infer(step))
        return {name: np.concatenate([part[name] for part in parts]) for name in self.output_names}

    def settle(self) -> None:
        """Wait until the form for pairs is ready, when it is being prepared."""
        if self._preparing is not None:
            self._preparing.join()

    def _steps(self, images: NDArray[Any]) -> Iterator[tuple["_Form", NDArray[Any]]]:
        in_pairs = len(images) // 2 * 2 if self._pair is not None else 0
        for start in range(0, in_pairs, 2):
            assert self._pair is not None
            yield self._pair, images[start : start + 2]
        for start in range(in_pairs, len(images)):
            yield self._single, images[start : start + 1]

    def _count_pairs(self, pairs: int) -> None:
        self._pairs_before_it -= pairs
        if self._pairs_before_it <= 0 and self._preparing is None:
            # Beside the answers, which go on one by one in the meantime.
            self._preparing = threading.Thread(target=self._prepare_pairs, name=f"pairs-{self.name}")
            self._preparing.start()

    def _prepare_pairs(self) -> None:
        try:
            form = self._compiled_for(2)
            form.infer(np.zeros((2, *self.image_shape), self._single.dtype))
        except (RuntimeError, IndexError, ValueError):
            log.exception("%s goes on one by one", self.name)
            return
        self._pair = form
        log.info("%s looks at two images at once from now on", self.name)

    def check(self, images: Message) -> NDArray[Any] | TensorRefusal:
        """Array of a request's TensorProto when it fits the input, else why it does not."""
        shape = tuple(dim.size for dim in images.tensor_shape.dim)
        wanted = f"{self.input_name} must be {data_type_name(self.input_type)} {[-1, *self.image_shape]}"
        if images.dtype != self.input_type:
            return TensorRefusal(f"{wanted}; this is {data_type_name(images.dtype)} {list(shape)}")
        if shape[1:] != self.image_shape:
            return TensorRefusal(f"{wanted}; this is {list(shape)}")
        if not 1 <= shape[0] <= MAX_BATCH:
            return TensorRefusal(f"{self.input_name} must hold 1 to {MAX_BATCH} images; this holds {shape[0]}")
        read = from_proto(images)
        return TensorRefusal(f"{self.input_name}: {read.sentence}") if isinstance(read, TensorRefusal) else read

    def warm_up(self) -> None:
        """Replay the recorded requests, or one zero image, so that the first caller does not pay for
        allocation.

        Raises SettingsError when a recorded request does not fit the network.
        """
        replayed = False
        for request in warmup_requests(self.folder):
            images = self.check(request.inputs[self.input_name])
            if isinstance(images, TensorRefusal):
                raise SettingsError(f"a warm-up request of {self.folder} does not fit: {images.sentence}")
            self.infer(images)
            replayed = True
        zero = np.zeros((1, *self.image_shape), self._single.dtype)
        if not replayed:
            self.infer(zero)
        began = time.perf_counter()
        self.infer(zero)
        self.expected_s = time.perf_counter() - began


class _Form:
    """A network compiled for a number of images. OpenVINO plans memory and steps for a size that it knows: a form for
    any number took 10 to 40 % longer.
    """

    def __init__(
        self, core: openvino.Core, source: Source, threads: int, outputs: tuple[str, ...], images: int
    ) -> None:
        """Raises RuntimeError, IndexError or ValueError for what OpenVINO cannot compile or has other outputs."""
        options = {**_OPTIONS, "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": source.hint}
        compiled = core.compile_model(read_graph(core, source, images), "CPU", options)
        self._positions = {
            name: position
            for name in outputs
            for position, output in enumerate(compiled.outputs)
            if name in output.names
        }
        if len(self._positions) != len(outputs):
            raise ValueError(f"it finds only the outputs {sorted(self._positions)}")
        self._request = compiled.create_infer_request()
        self.dtype = self._request.get_input_tensor(0).data.dtype

    def infer(self, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Every output for exactly as many images as it was made for."""
        self._request.infer({0: images})
        return {
            name: self._request.get_output_tensor(position).data.copy() for name, position in self._positions.items()
        }
