"""Watches the calls to the networks: how long each took, and where it stands in the trace."""

from __future__ import annotations

import time
from typing import Any

from services.analysis import tracing
from services.analysis.metrics import NetworkMetrics


class CallsWatched:
    """A `serving.client.CallWatch` that counts and traces."""

    def __init__(self, metrics: NetworkMetrics) -> None:
        self._metrics = metrics

    def begin(self, network: str) -> _CallWatched:
        """A call that is about to be sent."""
        return _CallWatched(self._metrics, network)


class _CallWatched:
    def __init__(self, metrics: NetworkMetrics, network: str) -> None:
        self._metrics = metrics
        self._network = network
        self._began = time.perf_counter()
        attributes = {"rpc.system": "grpc", "rpc.method": "Predict", "lesionlens.network": network}
        self._span: Any = tracing.begin_call(f"Predict {network}", attributes)
        sent = tracing.traceparent_of(self._span)
        self.metadata: tuple[tuple[str, str], ...] = ((tracing.HEADER, sent),) if sent else ()

    def end(self, code: str) -> None:
        """The call ended with gRPC's `code`. Called by one of gRPC's threads."""
        self._metrics.seconds.labels(self._network).observe(time.perf_counter() - self._began)
        if self._span is not None:
            self._span.set_attribute("rpc.grpc.status", code)
            self._span.end()
