"""The embedded model server.

`python -m serving.embedded --endpoint mobilenet=9001 --endpoint densenet121=9002 …`

One process serves one port or several, each with its own networks; ports share the cores, the lanes and
OpenVINO. A port opens at once and says NOT_SERVING (health) and LOADING (GetModelStatus) until its networks
are warm.

Shutdown on SIGTERM or SIGINT: health turns NOT_SERVING, new calls are refused, calls under way finish within
SHUTDOWN_GRACE_S, the process ends with status 0.
"""

import argparse
import logging
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import start_http_server

from services.analysis.allocator import keep_freed_memory
from services.analysis.end import End, EndBySignal
from services.analysis.errors import LesionLensError, SettingsError
from serving.client import MAX_MESSAGE_BYTES
from serving.embedded.engine import arrange, usable_cores
from serving.embedded.lanes import Lanes
from serving.embedded.loading import load
from serving.embedded.metrics import INFERENCE_SECONDS
from serving.embedded.model import ModelService
from serving.embedded.precision import Precision, sources
from serving.embedded.prediction import PredictionService
from serving.embedded.versions import Catalogue, Network, Policy, open_network
from serving.model_config import ModelConfig, config_file, read_config
from serving.wire import MODEL_SERVICE, PREDICTION_SERVICE

log = logging.getLogger("serving.embedded")

#: Seconds for calls under way after SIGTERM. The supervisor kills after ten; the slowest network answers in
#: 0.1 s, so four seconds empty a queue of ordinary length.
SHUTDOWN_GRACE_S = 4.0

#: Requests of one network that may wait. At 0.07 s each the last of them waits about two seconds, near the
#: callers' patience; who comes later hears RESOURCE_EXHAUSTED at once instead of a timeout later.
DEFAULT_QUEUE = 32

#: Threads of a port beyond those its queue can hold: for health, status and metadata while predictions wait.
SPARE_THREADS = 8

#: Milliseconds until a connection is asked to end, so that clients look names up again and find new replicas
#: (grpc/grpc#12295), and for how long its calls may go on.
MAX_CONNECTION_AGE_MS = 5 * 60 * 1000
CONNECTION_GRACE_MS = 60 * 1000

_SERVER_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a port somebody else holds is an error here, not a second listener on it
    ("grpc.max_connection_age_ms", MAX_CONNECTION_AGE_MS),
    ("grpc.max_connection_age_grace_ms", CONNECTION_GRACE_MS),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. `endpoints`: port → names of its networks."""

    endpoints: dict[int, tuple[str, ...]]
    folders: dict[str, Path]
    host: str
    wanted: Policy | frozenset[int]
    labels: dict[str, dict[str, int]]
    #: Networks whose versions and labels a configuration file names.
    configured: dict[str, ModelConfig]
    cores: int
    queue: int
    metrics_port: int | None
    models: Path
    precision: Precision
    calibrated: Path | None


class Endpoint:
    """One port and the networks behind it."""

    def __init__(self, host: str, port: int, networks: Sequence[Network], lanes: Lanes, queue: int) -> None:
        """Take the port; nothing is answered yet. Raises SettingsError when the port is taken."""
        self.networks = networks
        catalogue = Catalogue(networks)
        self._health = health.HealthServicer()
        self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._server = grpc.server(
            futures.ThreadPoolExecutor(len(networks) * (queue + 1) + SPARE_THREADS, f"port-{port}"),
            handlers=(PredictionService(catalogue, lanes).handlers(), ModelService(catalogue).handlers()),
            options=_SERVER_OPTIONS,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        try:
            self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise SettingsError(f"port {port} on {host} is taken or not allowed") from error

    def start(self) -> None:
        """Answer; health says NOT_SERVING until `is_warm`."""
        self._server.start()

    def is_warm(self) -> None:
        """Every network of this port is available: health says SERVING."""
        self._set_health(health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> threading.Event:
        """Begin to stop: NOT_SERVING, no new calls, those under way finish. The event is set when all have ended."""
        self._health.enter_graceful_shutdown()
        ended: threading.Event = self._server.stop(SHUTDOWN_GRACE_S)
        return ended

    def _set_health(self, status: int) -> None:
        for service in ("", PREDICTION_SERVICE, MODEL_SERVICE):
            self._health.set(service, status)


def serve(options: Options, stop: End) -> None:
    """Serve until `stop` is set. Raises SettingsError for a folder, version, label or port that cannot be."""
    names = sorted({name for group in options.endpoints.values() for name in group})
    networks = {name: _open(name, options) for name in names}
    find = sources(options.precision, options.calibrated, options.models)
    arrangement = arrange(options.cores, len(networks))
    lanes = Lanes(arrangement.lanes, options.queue, _count_seconds)
    endpoints = [
        Endpoint(options.host, port, [networks[name] for name in group], lanes, options.queue)
        for port, group in options.endpoints.items()
    ]
    if options.metrics_port is not None:
        start_http_server(options.metrics_port, options.host)
    try:
        for endpoint in endpoints:
            endpoint.start()
        load(networks.values(), arrangement.threads, options.cores, stop.is_set, find)
        if stop.is_set():
            return
        for endpoint in endpoints:
            endpoint.is_warm()
        log.info(
            "ready on %s: %d networks, %d at once on %d threads each",
            ", ".join(f"{options.host}:{port}" for port in options.endpoints),
            len(networks),
            arrangement.lanes,
            arrangement.threads,
        )
        stop.wait()
    finally:
        for ended in [endpoint.stop() for endpoint in endpoints]:
            ended.wait()
        log.info("stopped")


def _count_seconds(network: str, seconds: float) -> None:
    INFERENCE_SECONDS.labels(network).observe(seconds)


def _open(name: str, options: Options) -> Network:
    config = options.configured.get(name)
    if config is None:
        return open_network(name, options.folders[name], options.wanted, options.labels.get(name, {}))
    return open_network(name, options.folders[name], frozenset(config.versions), config.labels)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: 0 after a clean stop, 2 with one sentence on standard error when it cannot start."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    keep_freed_memory()
    stop = EndBySignal()
    stop.listen()
    try:
        serve(parse(arguments), stop)
    except LesionLensError as error:
        log.error("%s", error)  # noqa: TRY400 - one sentence for the operator; a trace would hide it
        return 2
    return 0


def parse(arguments: Sequence[str] | None) -> Options:
    """Options of a command line. Raises SettingsError for one that contradicts itself."""
    parser = argparse.ArgumentParser(prog="python -m serving.embedded", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--endpoint",
        action="append",
        default=[],
        metavar="NAME[,NAME]=PORT",
        help="repeatable: networks of a port, which serves all that are named for it",
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="repeatable: folder of a network's versions, where it is not MODELS/NAME",
    )
    parser.add_argument(
        "--models",
        type=Path,
        default=Path(__file__).parents[1] / "models",
        metavar="DIR",
        help="folder of the networks (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, help="one port for every --model, instead of --endpoint")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; [::] in a container (default: %(default)s)"
    )
    parser.add_argument(
        "--versions",
        default="latest",
        metavar="latest|all|N[,N]",
        help="versions to serve (default: %(default)s)",
    )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME:LABEL=VERSION",
        help="repeatable (default: stable=newest; with several versions canary=newest, stable=the one before)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="DIR",
        help="folder with NAME.config, a network's versions and labels as TensorFlow Serving reads them, in place of"
        " --versions and --label; read at start",
    )
    parser.add_argument(
        "--cores",
        type=int,
        default=usable_cores(),
        help="cores to use (default: all this process may use, %(default)s)",
    )
    parser.add_argument(
        "--queue",
        type=int,
        default=DEFAULT_QUEUE,
        help="requests of one network that may wait (default: %(default)s)",
    )
    parser.add_argument("--metrics-port", type=int, help="answer Prometheus on this port")
    parser.add_argument(
        "--precision",
        default=os.environ.get("PRECISION") or Precision.AUTO,
        choices=[str(precision) for precision in Precision],
        help="what networks compute in; auto: the quickest one offered (default: the variable PRECISION, or auto)",
    )
    parser.add_argument(
        "--calibrated",
        type=Path,
        default=os.environ.get("CALIBRATED_DIR") or None,
        metavar="DIR",
        help="what `lesionlens calibrate` wrote; without it, what was published in MODELS counts, and without either"
        " there is f32 alone (default: the variable CALIBRATED_DIR)",
    )
    given = parser.parse_args(arguments)

    folders = {name: Path(folder) for name, folder in (_split(pair, "=") for pair in given.model)}
    endpoints: dict[int, tuple[str, ...]] = {}
    for names, port in (_split(pair, "=") for pair in given.endpoint):
        number = _number(port)
        endpoints[number] = tuple(dict.fromkeys((*endpoints.get(number, ()), *names.split(","))))
    if given.port is not None and not given.endpoint:
        endpoints = {given.port: tuple(folders)}
    if not any(endpoints.values()) or (given.port is not None and given.endpoint):
        raise SettingsError(
            "say what to serve: --endpoint NAME=PORT for each port, or --model NAME=DIR with one --port"
        )
    for group in endpoints.values():
        for name in group:
            folders.setdefault(name, given.models / name)
    labels: dict[str, dict[str, int]] = {}
    for name_label, version in (_split(pair, "=") for pair in given.label):
        name, label = _split(name_label, ":")
        labels.setdefault(name, {})[label] = _number(version)
    return Options(
        endpoints,
        folders,
        given.host,
        _wanted(given.versions),
        labels,
        _configured(given.config, folders),
        max(1, given.cores),
        max(1, given.queue),
        given.metrics_port,
        given.models,
        Precision(given.precision),
        given.calibrated,
    )


def _configured(folder: Path | None, names: Iterable[str]) -> dict[str, ModelConfig]:
    if folder is None:
        return {}
    return {name: read_config(folder, name) for name in names if config_file(folder, name).exists()}


def _wanted(text: str) -> Policy | frozenset[int]:
    try:
        return Policy(text)
    except ValueError:
        return frozenset(_number(version) for version in text.split(","))


def _split(pair: str, separator: str) -> tuple[str, str]:
    left, found, right = pair.partition(separator)
    if not (left and found and right):
        raise SettingsError(f"{pair!r} is not of the form …{separator}…")
    return left, right


def _number(text: str) -> int:
    if not text.isdecimal():
        raise SettingsError(f"{text!r} is not a number")
    return int(text)
