"""One version of one network, ready to answer: a SavedModel compiled by OpenVINO."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
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

#: Signature that is asked for when a request names none.
DEFAULT_SIGNATURE = "serving_default"

#: Images in one request at most: 64 take about 10 s on two cores, longer than any caller's deadline.
MAX_BATCH = 64

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
    ) -> None:
        """Read and compile `folder`, a SavedModel whose default signature has one input with a free first
        axis. `source`: the same network in another precision (f32 of the SavedModel when not given).

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
        self._request, self._positions = self._compile(core, threads, source or Source(folder, "f32"))

    def infer(self, images: NDArray[Any], go_on: Callable[[], bool] = lambda: True) -> dict[str, NDArray[Any]]:
        """Every output for `images` ([n, …] of the input's type and shape), each with n as its first axis.

        Image by image: the networks are compiled for one image, which OpenVINO runs as fast per image as a
        batch. When `go_on` turns False between two images (the caller has gone) the answer is empty.
        """
        rows: list[list[NDArray[Any]]] = []
        for image in images:
            if not go_on():
                return {}
            self._request.infer({0: image[np.newaxis]})
            rows.append(
                [self._request.get_output_tensor(position).data.copy() for position in self._positions.values()]
            )
        return {
            name: np.concatenate(column) for name, column in zip(self._positions, zip(*rows, strict=True), strict=True)
        }

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
        zero = np.zeros((1, *self.image_shape), self._request.get_input_tensor(0).data.dtype)
        if not replayed:
            self.infer(zero)
        began = time.perf_counter()
        self.infer(zero)
        self.expected_s = time.perf_counter() - began

    def _compile(
        self, core: openvino.Core, threads: int, source: Source
    ) -> tuple[openvino.InferRequest, dict[str, int]]:
        try:
            options = {**_OPTIONS, "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": source.hint}
            compiled = core.compile_model(read_graph(core, source), "CPU", options)
        except (RuntimeError, IndexError, ValueError) as error:
            raise SettingsError(f"OpenVINO cannot compile {self.folder}: {error}") from error
        positions = {
            name: position
            for name in self.output_names
            for position, output in enumerate(compiled.outputs)
            if name in output.names
        }
        if len(positions) != len(self.output_names):
            raise SettingsError(f"OpenVINO finds only the outputs {sorted(positions)} of {self.folder}")
        return compiled.create_infer_request(), positions
