"""One trace from a request through the queue to networks and database.

A trace is named by the `traceparent` of W3C's Trace Context. It travels in the headers of a message to the worker and
of a call to a network, and its id stands in every log line on the way, whether or not anybody collects traces. With
`OTLP_URL` set, spans are sent there; without it no exporter is even imported, and a span costs one comparison.

Spans hold names, codes and SQL with its parameters left out: no ids, no addresses, no image.
"""

from __future__ import annotations

import atexit
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Engine, event

from services.analysis.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

HEADER = "traceparent"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
#: Seconds the last spans of a process that ends may take to be sent.
_FLUSH_S = 3
#: Seconds between two batches of spans.
_SEND_EVERY_S = 2

_here: ContextVar[str | None] = ContextVar("traceparent", default=None)


class _Collecting:
    """Where this process' spans go; None until `start` was called with an address."""

    provider: TracerProvider | None = None
    tracer: Any = None


def start(settings: Settings, service: str) -> None:
    """Sends this process' spans to `OTLP_URL`; does nothing without one. Call after the fork, once per process.

    The exporter has a thread, which a fork would not copy.
    """
    if not settings.otlp_url or _Collecting.tracer is not None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    collect(OTLPSpanExporter(endpoint=f"{settings.otlp_url.rstrip('/')}/v1/traces", timeout=_FLUSH_S), service)


def collect(exporter: SpanExporter, service: str) -> None:
    """Hands this process' spans to `exporter`, in batches, and the last of them when the process ends."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource({"service.name": f"lesionlens-{service}"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_SEND_EVERY_S * 1000))
    _Collecting.provider = provider
    _Collecting.tracer = provider.get_tracer("lesionlens")
    atexit.register(stop)


def stop() -> None:
    """Sends what is left, and collects nothing more."""
    provider, _Collecting.provider, _Collecting.tracer = _Collecting.provider, None, None
    if provider is not None:
        provider.force_flush(_FLUSH_S * 1000)
        provider.shutdown()


def valid(traceparent: object) -> str | None:
    """The header's value when it is one, else None."""
    text = traceparent.lower() if isinstance(traceparent, str) else ""
    found = _TRACEPARENT.fullmatch(text)
    return text if found and set(found[1]) != {"0"} and set(found[2]) != {"0"} else None


def trace_id() -> str | None:
    """32 hexadecimal digits: the trace that this thread works for; None outside any."""
    here = _here.get()
    return here.split("-")[1] if here else None


def traceparent() -> str | None:
    """What to send along with a message or a call; None outside any trace."""
    return _here.get()


@contextmanager
def entered(name: str, kind: str, parent: object = None) -> Iterator[Any]:
    """The part of a trace that happens in this process, begun by `parent` or here. Log lines in it name the trace.

    `kind` is OpenTelemetry's: `server` for a request, `consumer` for a message. Gives the span, or None.
    """
    with _span(name, kind, valid(parent)) as span:
        before = structlog.contextvars.get_contextvars().get("trace_id")
        structlog.contextvars.bind_contextvars(trace_id=trace_id())
        try:
            yield span
        finally:
            if before is None:
                structlog.contextvars.unbind_contextvars("trace_id")
            else:
                structlog.contextvars.bind_contextvars(trace_id=before)


@contextmanager
def span(name: str, kind: str = "internal", attributes: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """A step of the trace; without a collector, nothing."""
    if _Collecting.tracer is None or _here.get() is None:
        yield None
        return
    with _span(name, kind, _here.get(), attributes) as begun:
        yield begun


def begin_call(name: str, attributes: Mapping[str, Any]) -> Any:
    """A client span that another thread may end with `.end()`; None without a collector."""
    if _Collecting.tracer is None or _here.get() is None:
        return None
    return _begin(name, "client", _here.get(), attributes)


def traceparent_of(begun: Any) -> str | None:
    """What to send along with the call of a span from `begin_call`; without one that of the trace."""
    if begun is None:
        return _here.get()
    context = begun.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def watch(engine: Engine) -> Engine:
    """Gives every statement of `engine` a span, when traces are collected; returns it."""
    if _Collecting.tracer is None:
        return engine

    def before(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        operation = statement.split(None, 1)[0].upper() if statement else "SQL"
        attributes = {"db.system.name": "postgresql", "db.operation.name": operation, "db.query.text": statement}
        connection.info.setdefault("lesionlens_spans", []).append(begin_call(f"SQL {operation}", attributes))

    def after(connection: Any, *_: Any) -> None:
        _end(connection.info.get("lesionlens_spans"))

    def failed(context: Any) -> None:
        if context.connection is not None:
            _end(context.connection.info.get("lesionlens_spans"), type(context.original_exception).__name__)

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(engine, "handle_error", failed)
    return engine


def _end(begun: list[Any] | None, error: str | None = None) -> None:
    ended = begun.pop() if begun else None
    if ended is not None:
        if error is not None:
            ended.set_attribute("error.type", error)
        ended.end()


@contextmanager
def _span(name: str, kind: str, parent: str | None, attributes: Mapping[str, Any] | None = None) -> Iterator[Any]:
    begun = _begin(name, kind, parent, attributes) if _Collecting.tracer is not None else None
    if begun is not None:
        here = traceparent_of(begun)
    else:
        here = parent or f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    token = _here.set(here)
    try:
        yield begun
    except BaseException as error:
        if begun is not None:
            begun.set_attribute("error.type", type(error).__name__)
        raise
    finally:
        _here.reset(token)
        if begun is not None:
            begun.end()


def _begin(name: str, kind: str, parent: str | None, attributes: Mapping[str, Any] | None) -> Any:
    from opentelemetry.trace import (
        NonRecordingSpan,
        SpanContext,
        SpanKind,
        TraceFlags,
        set_span_in_context,
    )

    context = None
    if parent is not None:
        _, trace, begun_by, _ = parent.split("-")
        # Sampled whatever the sender says: whoever sets OTLP_URL wants to see it.
        remote = SpanContext(int(trace, 16), int(begun_by, 16), is_remote=True, trace_flags=TraceFlags(1))
        context = set_span_in_context(NonRecordingSpan(remote))
    return _Collecting.tracer.start_span(name, context, SpanKind[kind.upper()], attributes)
