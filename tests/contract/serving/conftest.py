"""The embedded model server as a real process, and the three clients that must get along with it."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import numpy as np
import pytest
import tenacity
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving import wire
from serving.client import CHANNEL_OPTIONS
from serving.tensors import from_proto, to_proto

ROOT = Path(__file__).parents[3]

#: The tests need a real network; the smallest of the four starts in half a second.
NETWORK = "mobilenet"

#: Seconds for anything that takes well under one on a free machine.
PATIENCE_S = 60.0


def _needs(module: str) -> ModuleType:
    """The module; where it is not installed the test is skipped, but never in CI."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorFlow's making, and none of ours
        if os.environ.get("CI"):
            return importlib.import_module(module)
        return pytest.importorskip(module, reason=f"{module} comes with requirements/test.txt")


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback interface that are free now, all different."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@dataclass(frozen=True)
class Served:
    """A running embedded model server."""

    process: subprocess.Popen[str]
    ports: tuple[int, ...]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.ports[0]}"

    def stop(self) -> tuple[int, str]:
        """SIGTERM; exit status and what it had logged."""
        return stop_server(self)

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.address, options=CHANNEL_OPTIONS)


def start_server(arguments: Sequence[str], ports: Sequence[int], *, wait: bool = True) -> Served:
    """Start the server on `ports`; wait until each says SERVING."""
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.embedded", *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    served = Served(process, tuple(ports))
    if wait:
        try:
            for port in ports:
                wait_until_serving(process, f"127.0.0.1:{port}")
        except BaseException:
            process.kill()
            process.communicate()
            raise
    return served


@tenacity.retry(
    stop=tenacity.stop_after_delay(PATIENCE_S),
    wait=tenacity.wait_fixed(0.05),
    retry=tenacity.retry_if_exception_type((grpc.RpcError, AssertionError)),
    reraise=True,
)
def wait_until_serving(process: subprocess.Popen[str], address: str) -> None:
    if process.poll() is not None:
        raise RuntimeError(f"the server ended with {process.returncode}: {process.stderr.read()}")
    with grpc.insecure_channel(address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def stop_server(served: Served) -> tuple[int, str]:
    """SIGTERM; exit status and what it had logged."""
    if served.process.returncode is not None:
        return served.process.returncode, ""
    served.process.send_signal(signal.SIGTERM)
    try:
        _, logged = served.process.communicate(timeout=PATIENCE_S)
    finally:
        served.process.kill()
        served.process.wait()
    return served.process.returncode, logged


@pytest.fixture(scope="session")
def needs() -> Callable[[str], ModuleType]:
    """Imports a module that only requirements/test.txt brings."""
    return _needs


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """A real network's folder, tracked in git (or that of MODELS_DIR)."""
    folder = Path(os.environ.get("MODELS_DIR", ROOT / "serving" / "models")) / NETWORK
    assert folder.is_dir(), f"{folder} is missing: the networks are part of the repository"
    return folder


@pytest.fixture(scope="session")
def two_versions(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network twice, as version 1 and as version 2."""
    newest = max(
        (entry for entry in model_folder.iterdir() if entry.name.isdecimal()), key=lambda entry: int(entry.name)
    )
    folder = tmp_path_factory.mktemp("two_versions")
    for version in ("1", "2"):
        (folder / version).symlink_to(newest)
    return folder


@pytest.fixture(scope="session")
def served(two_versions: Path) -> Iterator[Served]:
    """The server with both versions: stable is 1, canary is 2."""
    (port,) = free_ports(1)
    # In f32: what is known of bf16 counts for the version that the stack names, and both are to answer the same.
    arguments = ["--model", f"{NETWORK}={two_versions}", "--versions", "all", "--precision", "f32", "--port", str(port)]
    running = start_server(arguments, [port])
    yield running
    stop_server(running)


@pytest.fixture
def start(model_folder: Path) -> Iterator[Callable[..., Served]]:
    """Starts servers of a test's own, with more arguments; each is stopped after the test."""
    started: list[Served] = []

    def run(*arguments: str, ports: int = 1, wait: bool = True) -> Served:
        chosen = free_ports(ports)
        endpoints = [f"--endpoint={NETWORK}={port}" for port in chosen]
        # In f32 on every processor: some tests need an inference that takes its time.
        given = [f"--model={NETWORK}={model_folder}", "--precision=f32", *endpoints, *arguments]
        served = start_server(given, chosen, wait=wait)
        started.append(served)
        return served

    yield run
    for served in started:
        stop_server(served)


@pytest.fixture
def images() -> np.ndarray:
    """Two different images."""
    return np.random.default_rng(7).integers(0, 256, (2, 224, 224, 3), np.uint8)


@dataclass
class CallFailedError(Exception):
    """What a client saw when the server refused: the name of the status code, and its text."""

    code: str
    text: str


@dataclass(frozen=True)
class Stubs:
    """Message classes and calls of one set of stubs: ours or tensorflow-serving-api's. The names are the same."""

    messages: Any
    predict: Callable[..., Any]
    metadata: Callable[..., Any]
    status: Callable[..., Any]


class _Merged:
    """The message classes of several modules under one roof."""

    def __init__(self, *modules: ModuleType) -> None:
        self._modules = modules

    def __getattr__(self, name: str) -> Any:
        for module in self._modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(name)


def our_stubs(channel: grpc.Channel) -> Stubs:
    def call(path: str, response: Any) -> Callable[..., Any]:
        return channel.unary_unary(path, lambda message: message.SerializeToString(), response.FromString)

    return Stubs(
        wire,
        call(wire.PREDICT, wire.PredictResponse),
        call(wire.GET_MODEL_METADATA, wire.GetModelMetadataResponse),
        call(wire.GET_MODEL_STATUS, wire.GetModelStatusResponse),
    )


def official_stubs(channel: grpc.Channel) -> Stubs:
    apis = "tensorflow_serving.apis"
    messages = _Merged(
        *(_needs(f"{apis}.{name}_pb2") for name in ("predict", "model", "get_model_metadata", "get_model_status")),
        _needs("tensorflow.core.framework.tensor_pb2"),
    )
    prediction = _needs(f"{apis}.prediction_service_pb2_grpc").PredictionServiceStub(channel)
    model = _needs(f"{apis}.model_service_pb2_grpc").ModelServiceStub(channel)
    return Stubs(messages, prediction.Predict, prediction.GetModelMetadata, model.GetModelStatus)


@pytest.fixture(params=[our_stubs, official_stubs], ids=["our stubs", "tensorflow-serving-api"])
def stubs(request: pytest.FixtureRequest, served: Served) -> Iterator[Stubs]:
    with served.channel() as channel:
        yield request.param(channel)


class StubCaller:
    """Calls through a set of stubs."""

    def __init__(self, stubs: Stubs) -> None:
        self.stubs = stubs

    def predict(
        self, images: np.ndarray, name: str = NETWORK, version: int = 0, alias: str = "image"
    ) -> dict[str, np.ndarray]:
        request = self.stubs.messages.PredictRequest()
        self._spec(request, name, version)
        tensor = self.stubs.messages.TensorProto.FromString(to_proto(images).SerializeToString())
        request.inputs[alias].CopyFrom(tensor)
        return {name: from_proto(output) for name, output in self._call(self.stubs.predict, request).outputs.items()}

    def status(self, name: str = NETWORK, version: int = 0) -> dict[int, str]:
        request = self.stubs.messages.GetModelStatusRequest()
        self._spec(request, name, version)
        states = self.stubs.messages.ModelVersionStatus.State
        return {
            entry.version: states.Name(entry.state)
            for entry in self._call(self.stubs.status, request).model_version_status
        }

    def inputs(self, name: str = NETWORK, version: int = 0) -> dict[str, list[int]]:
        request = self.stubs.messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._spec(request, name, version)
        signatures = self.stubs.messages.SignatureDefMap()
        assert self._call(self.stubs.metadata, request).metadata["signature_def"].Unpack(signatures)
        signature = signatures.signature_def["serving_default"]
        return {alias: [dim.size for dim in info.tensor_shape.dim] for alias, info in signature.inputs.items()}

    @staticmethod
    def _spec(request: Any, name: str, version: int) -> None:
        request.model_spec.name = name
        if version:
            request.model_spec.version.value = version

    @staticmethod
    def _call(method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            raise CallFailedError(error.code().name, error.details()) from error


class OvmsCaller:
    """Calls through ovmsclient, which shares no code with TensorFlow Serving or with us."""

    def __init__(self, address: str) -> None:
        self._errors = _needs("ovmsclient.tfs_compat.base.errors")
        self._client = _needs("ovmsclient").make_grpc_client(address)

    def predict(
        self, images: np.ndarray, name: str = NETWORK, version: int = 0, alias: str = "image"
    ) -> dict[str, np.ndarray]:
        return self._call(self._client.predict, {alias: images}, name, version)

    def status(self, name: str = NETWORK, version: int = 0) -> dict[int, str]:
        return {
            number: state["state"] for number, state in self._call(self._client.get_model_status, name, version).items()
        }

    def inputs(self, name: str = NETWORK, version: int = 0) -> dict[str, list[int]]:
        found = self._call(self._client.get_model_metadata, name, version)["inputs"]
        return {alias: info["shape"] for alias, info in found.items()}

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return method(*arguments, timeout=PATIENCE_S)
        except self._errors.ModelNotFoundError as error:
            raise CallFailedError("NOT_FOUND", str(error)) from error
        except self._errors.InvalidInputError as error:
            raise CallFailedError("INVALID_ARGUMENT", str(error)) from error


@pytest.fixture(params=["our stubs", "tensorflow-serving-api", "ovmsclient"])
def caller(request: pytest.FixtureRequest, served: Served) -> Iterator[StubCaller | OvmsCaller]:
    """Each of the three clients in turn."""
    if request.param == "ovmsclient":
        yield OvmsCaller(served.address)
        return
    make = our_stubs if request.param == "our stubs" else official_stubs
    with served.channel() as channel:
        yield StubCaller(make(channel))


@pytest.fixture
def failed() -> Callable[[Callable[[], Any]], CallFailedError]:
    """Runs what must fail and returns the failure."""

    def run(call: Callable[[], Any]) -> CallFailedError:
        with pytest.raises(CallFailedError) as caught:
            call()
        return caught.value

    return run


class FakeServers:
    """In-process gRPC servers that answer Predict and GetModelStatus with functions of a test's own."""

    def __init__(self) -> None:
        self._servers: dict[str, grpc.Server] = {}

    @property
    def addresses(self) -> list[str]:
        return list(self._servers)

    def __call__(self, predict=None, status=None) -> str:
        server = grpc.server(futures.ThreadPoolExecutor(4))
        for service, method, function, request in (
            (wire.PREDICTION_SERVICE, "Predict", predict, wire.PredictRequest),
            (wire.MODEL_SERVICE, "GetModelStatus", status, wire.GetModelStatusRequest),
        ):
            if function:
                handler = grpc.unary_unary_rpc_method_handler(
                    function, request.FromString, lambda message: message.SerializeToString()
                )
                server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        self._servers[address] = server
        return address

    def kill(self, address: str) -> None:
        self._servers[address].stop(0)

    def close(self) -> None:
        for address in self._servers:
            self.kill(address)


@pytest.fixture
def fake():
    servers = FakeServers()
    yield servers
    servers.close()
