"""A trace has one name on its whole way, and costs nothing where nobody collects it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import structlog
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import create_engine, text

from services.analysis import tracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collected():
    exporter = InMemorySpanExporter()
    tracing.collect(exporter, "test")
    yield exporter
    tracing.stop()


def test_a_message_carries_on_the_trace_it_was_sent_in() -> None:
    with tracing.entered("request", "server", PARENT):
        assert tracing.trace_id() == PARENT.split("-")[1]
        assert tracing.traceparent() == PARENT
        assert structlog.contextvars.get_contextvars()["trace_id"] == tracing.trace_id()
    assert tracing.traceparent() is None
    assert "trace_id" not in structlog.contextvars.get_contextvars()


@pytest.mark.parametrize(
    "sent", ["", "nonsense", None, 7, f"{PARENT}-", PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32)]
)
def test_what_is_no_traceparent_begins_a_new_trace(sent: object) -> None:
    with tracing.entered("request", "server", sent):
        assert tracing.valid(tracing.traceparent())
        assert tracing.trace_id() != PARENT.split("-")[1]


def test_spans_hang_together_and_statements_show_no_values(collected: InMemorySpanExporter) -> None:
    engine = tracing.watch(create_engine("sqlite://"))
    with tracing.entered("request", "server", PARENT), tracing.span("ring", "producer"), engine.connect() as connection:
        connection.execute(text("SELECT :value"), {"value": "secret"})
    tracing.stop()

    by_name = {span.name: span for span in collected.get_finished_spans()}
    assert set(by_name) == {"request", "ring", "SQL SELECT"}
    assert by_name["SQL SELECT"].parent.span_id == by_name["ring"].context.span_id
    assert by_name["ring"].parent.span_id == by_name["request"].context.span_id
    assert f"{by_name['request'].parent.span_id:016x}" == PARENT.split("-")[2]
    assert {f"{span.context.trace_id:032x}" for span in by_name.values()} == {PARENT.split("-")[1]}
    assert "secret" not in str([span.attributes for span in by_name.values()])


def test_an_error_ends_its_span_and_passes_through(collected: InMemorySpanExporter) -> None:
    engine = tracing.watch(create_engine("sqlite://"))
    with (
        pytest.raises(Exception, match="nowhere"),
        tracing.entered("request", "server"),
        engine.connect() as connection,
    ):
        connection.execute(text("SELECT * FROM nowhere"))
    tracing.stop()

    errors = {span.name: span.attributes.get("error.type") for span in collected.get_finished_spans()}
    assert errors == {"SQL SELECT": "OperationalError", "request": "OperationalError"}


def test_without_a_collector_nothing_is_made_that_could_send() -> None:
    look = (
        "import sys; from services.analysis import tracing; from services.analysis.settings import load_settings;"
        "tracing.start(load_settings({}), 'x');"
        "from services.gateway.wsgi import create_app;"
        "exec('with tracing.entered(1, 2):\\n with tracing.span(3): assert tracing.begin_call(4, {}) is None');"
        "sys.exit(any(name.startswith('opentelemetry.exporter') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", look], check=True)
