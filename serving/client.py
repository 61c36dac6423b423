"""Ask the networks over gRPC: four calls at once under one deadline.

Each network is an address that speaks TensorFlow Serving's API: TensorFlow Serving itself, or the embedded
model server. Nothing connects at construction. Channels are made at the first call, and again in a forked
child: a channel made before a fork hangs in the child (grpc/grpc#13464).
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray

from serving.answers import EVERYTHING, NetworkAnswer, NetworkFailure, longest_first, read_answer
from serving.tensors import TensorRefusal, from_proto, to_proto
from serving.wire import (
    GET_MODEL_STATUS,
    PREDICT,
    GetModelStatusRequest,
    GetModelStatusResponse,
    Message,
    ModelVersionStatus,
    PredictRequest,
    PredictResponse,
)

#: Bytes of one message, each way. The largest tensor we send, 64 images, is 9.6 MB; gRPC's own limit of 4 MB
#: for what comes back would refuse large batches (tensorflow/serving#1382).
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

#: Bytes of a request that are kept so that it can be sent again. gRPC's own 256 KiB would do for one image and silently
#: give up the second attempt for two.
RESEND_BUFFER_BYTES = 16 * 1024 * 1024

#: Milliseconds between keepalive pings. A server closes the connection of a client that pings an idle
#: connection more often than every 300 s (`too_many_pings`, gRPC's keepalive guide).
KEEPALIVE_MS = 10 * 60 * 1000

#: Milliseconds until a lost server is dialled again. gRPC's default grows to two minutes, during which a
#: server that has long come back would still be refused.
FIRST_REDIAL_MS = 200
LAST_REDIAL_MS = 2_000

#: Milliseconds between name look-ups (gRPC's default is 30 s): how soon new replicas behind a headless
#: Service are found after a connection drops.
RESOLVE_MS = 5_000

#: `round_robin`, because `pick_first` stays with one replica for ever; and a call that met a server just
#: going away is sent again within its deadline, which is safe because a Predict changes nothing.
_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)

CHANNEL_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.per_rpc_retry_buffer_size", RESEND_BUFFER_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.initial_reconnect_backoff_ms", FIRST_REDIAL_MS),
    ("grpc.min_reconnect_backoff_ms", FIRST_REDIAL_MS),
    ("grpc.max_reconnect_backoff_ms", LAST_REDIAL_MS),
    ("grpc.dns_min_time_between_resolutions_ms", RESOLVE_MS),
    (
        "grpc.enable_http_proxy",
        0,
    ),  # the networks are neighbours; a proxy set for the internet would break the calls
)


#: A call under way: grpc.Call and grpc.Future in one.
Call: TypeAlias = Any


class BegunCall(Protocol):
    """One watched call."""

    #: Sent along with the call.
    metadata: tuple[tuple[str, str], ...]

    def end(self, code: str) -> None:
        """The call ended with this gRPC status; said by a thread of gRPC's."""
        ...


class CallWatch(Protocol):
    """Whoever wants to know about each Predict call: for metrics and traces."""

    def begin(self, network: str) -> BegunCall:
        """A call to `network` is about to be sent."""
        ...


class NetworkClient:
    """One network at one address.

    `version` asks for that version, `label` for a labelled one (`stable`, `canary`), neither for the newest.
    """

    def __init__(self, name: str, address: str, label: str | None = None, version: int | None = None) -> None:
        self.name = name
        self.address = address
        self._label = label
        self._version = version
        self._channel: grpc.Channel | None = None
        self._owner = 0

    def request(self, tensor: Message) -> bytes:
        """The PredictRequest for a TensorProto of images, as it is sent."""
        request = PredictRequest()
        self._fill(request.model_spec)
        request.inputs["image"].CopyFrom(tensor)
        sent: bytes = request.SerializeToString()
        return sent

    def start_predict(self, request: bytes, timeout_s: float, watch: CallWatch | None = None) -> Call:
        """Send a `request`; the grpc.Future of its PredictResponse. Returns at once."""
        if watch is None:
            return self._call(PREDICT, PredictResponse)(request, timeout_s)
        begun = watch.begin(self.name)
        call = self._call(PREDICT, PredictResponse, begun.metadata)(request, timeout_s)
        call.add_done_callback(lambda ended: begun.end(ended.code().name))
        return call

    def start_status(self, timeout_s: float) -> Call:
        """Ask for the state of every version; the grpc.Future of a GetModelStatusResponse. Returns at once."""
        request = GetModelStatusRequest()
        request.model_spec.name = self.name
        return self._call(GET_MODEL_STATUS, GetModelStatusResponse)(request, timeout_s)

    def close(self) -> None:
        """Close the channel of this process; the next call opens another."""
        if self._channel is not None and self._owner == os.getpid():
            self._channel.close()
        self._channel = None

    def _fill(self, model_spec: Message) -> None:
        model_spec.name = self.name
        if self._version is not None:
            model_spec.version.value = self._version
        elif self._label:
            model_spec.version_label = self._label

    def _call(
        self, path: str, response: Message, metadata: Sequence[tuple[str, str]] = ()
    ) -> Callable[[Message, float], Call]:
        method = self._open().unary_unary(
            path,
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return partial(_start, method, metadata)

    def _open(self) -> grpc.Channel:
        if self._channel is None or self._owner != os.getpid():
            self._channel = grpc.insecure_channel(target(self.address), options=CHANNEL_OPTIONS)
            self._owner = os.getpid()
        return self._channel


def target(address: str) -> str:
    """Target of gRPC for an address: `host:port` becomes `dns:///host:port`; a target with its own scheme stays."""
    return address if address.startswith(("dns:", "ipv4:", "ipv6:", "unix:", "xds:")) else f"dns:///{address}"


class RemoteEnsemble:
    """The networks behind their addresses, asked together. May be made before a fork and used after it."""

    def __init__(
        self,
        addresses: Mapping[str, str],
        label: str | None = None,
        versions: Mapping[str, int] | None = None,
        watch: CallWatch | None = None,
    ) -> None:
        """`addresses`: network name → `host:port`, in the order in which the answers are wanted.

        `versions`: network name → the version to ask for, where it must not be just the newest.
        `watch` is told of each Predict call.
        """
        self._watch = watch
        self._clients = [
            NetworkClient(name, address, label, (versions or {}).get(name)) for name, address in addresses.items()
        ]

    def ask_all(
        self, tensor: NDArray[np.uint8], deadline_s: float, shown: Mapping[str, int] = EVERYTHING
    ) -> tuple[NetworkAnswer | NetworkFailure, ...]:
        """Ask every network about `tensor` (uint8 [n,224,224,3], RGB); one answer or failure each, in order.

        `shown`: of how many images a network sees only the first; one that is not named sees all.
        All calls are under way before the first is waited for, and all end `deadline_s` seconds after this
        call began.
        """
        end = time.monotonic() + deadline_s
        counts = {client.name: shown.get(client.name, len(tensor)) for client in self._clients}
        protos = {count: to_proto(tensor[:count]) for count in set(counts.values())}
        # Requests first, calls then, the longest first: as soon as a network hears of one it takes a core, and calls
        # that begin later come late.
        clients = {client.name: client for client in self._clients}
        ready = {name: clients[name].request(protos[counts[name]]) for name in longest_first(counts)}
        calls = {
            name: clients[name].start_predict(request, max(0.0, end - time.monotonic()), self._watch)
            for name, request in ready.items()
        }
        return tuple(_read(client, calls[name], counts[name], deadline_s) for name, client in clients.items())

    def readiness(self, timeout_s: float) -> dict[str, bool]:
        """Which networks have an AVAILABLE version, asked all at once; False also where nobody answers in time."""
        calls = {client.name: client.start_status(timeout_s) for client in self._clients}
        return {name: bool(_available_versions(call)) for name, call in calls.items()}

    def served_versions(self, timeout_s: float) -> dict[str, frozenset[int]]:
        """The AVAILABLE versions of each network, asked all at once; none where nobody answers in time."""
        calls = {client.name: client.start_status(timeout_s) for client in self._clients}
        return {name: _available_versions(call) for name, call in calls.items()}

    def close(self) -> None:
        """Close the channels."""
        for client in self._clients:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _start(
    method: grpc.UnaryUnaryMultiCallable, metadata: Sequence[tuple[str, str]], request: Message, timeout_s: float
) -> Call:
    return method.future(request, timeout=timeout_s, metadata=metadata)


def _read(client: NetworkClient, call: Call, count: int, deadline_s: float) -> NetworkAnswer | NetworkFailure:
    try:
        response = call.result()
    except grpc.FutureCancelledError:
        return NetworkFailure(client.name, "CANCELLED", f"the call to {client.name} was cancelled")
    except grpc.RpcError as error:
        return _failure(client, error, deadline_s)
    version = response.model_spec.version.value
    outputs = {}
    for output, proto in response.outputs.items():
        array = from_proto(proto)
        if isinstance(array, TensorRefusal):
            return NetworkFailure(
                client.name,
                "MALFORMED_ANSWER",
                f"{client.name} version {version} gave {output} in a form that cannot be read: {array.sentence}",
            )
        outputs[output] = array
    return read_answer(client.name, version, outputs, count)


def _failure(client: NetworkClient, error: grpc.RpcError, deadline_s: float) -> NetworkFailure:
    code = error.code().name
    if code == "DEADLINE_EXCEEDED":
        sentence = f"{client.name} at {client.address} did not answer within {deadline_s:g} s"
    else:
        sentence = f"{client.name} at {client.address} answered {code}: {error.details()}"
    return NetworkFailure(client.name, code, sentence)


def _available_versions(call: Call) -> frozenset[int]:
    try:
        versions = call.result().model_version_status
    except (grpc.RpcError, grpc.FutureCancelledError):
        return frozenset()
    return frozenset(int(version.version) for version in versions if version.state == ModelVersionStatus.AVAILABLE)
