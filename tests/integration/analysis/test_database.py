"""What a process says to PostgreSQL: no more than it must, and to connections that still stand."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import CacheStats

from services.analysis import database
from services.analysis.database import database_answers
from services.analysis.record import Analysis, AnalysisRecord, Lease, Submission
from services.analysis.results import CLASSES, NETWORKS, Band, NetworkOpinion, Result
from services.analysis.states import PREPARE, STACK, Stage

RESULT = Result(
    probability=0.25,
    band=Band.UNSURE,
    networks=tuple(NetworkOpinion(name, 1, -0.5, 0.378) for name in NETWORKS),
    classes=tuple((name, 1 / 7) for name in CLASSES),
    attention=((0.0,) * 7,) * 7,
    model_version="1",
)


@pytest.fixture
def said(engine: Engine) -> Iterator[list[bool]]:
    """One entry for each statement sent: whether it was its own transaction."""
    statements: list[bool] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(connection: Connection, *_: Any) -> None:
        driver: Any = connection.connection.dbapi_connection
        statements.append(driver.autocommit)

    yield statements
    event.remove(engine, "before_cursor_execute", note)


def claimed(record: AnalysisRecord, analysis_id: uuid.UUID, stage: Stage) -> Lease:
    lease = record.claim(analysis_id, stage, 20.0, 3)
    assert isinstance(lease, Lease)
    return lease


def worked_through(record: AnalysisRecord) -> Analysis:
    analysis_id = uuid.uuid4()
    record.accept(Submission(analysis_id, b"digest"))
    record.advance(claimed(record, analysis_id, PREPARE), {})
    record.finish(claimed(record, analysis_id, STACK), RESULT)
    return record.find(analysis_id)


def test_each_step_of_an_analysis_is_one_statement_and_its_own_transaction(engine: Engine, said: list[bool]) -> None:
    record, analysis_id = AnalysisRecord(engine), uuid.uuid4()
    record.accept(Submission(analysis_id, b"digest"))
    assert said == [True]
    prepares = claimed(record, analysis_id, PREPARE)
    record.advance(prepares, {})
    stacks = claimed(record, analysis_id, STACK)
    record.finish(stacks, RESULT)
    assert said == [True] * 5
    assert record.find(analysis_id).result == RESULT


@pytest.mark.parametrize("behalf", ["a worker", "somebody without a key"])
def test_what_was_said_of_one_analysis_is_not_built_again_for_the_next(engine: Engine, behalf: str) -> None:
    record = AnalysisRecord(engine)
    record = record if behalf == "a worker" else record.on_behalf_of(None)
    worked_through(record)
    known: list[bool] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(*said: Any) -> None:
        *_, context, _many = said
        known.append(context.cache_hit is CacheStats.CACHE_HIT)

    try:
        assert worked_through(record).result == RESULT
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert known == [True] * 7  # accepted, claimed, advanced, claimed, finished, found, predicted


def written(engine: Engine, what: str) -> int:
    """Byte of the write-ahead log up to which everything is `insert`ed, or on the disk (`flush`)."""
    with engine.connect() as connection:
        position: int = connection.execute(text(f"SELECT pg_current_wal_{what}_lsn() - '0/0'")).scalar_one()
    return position


def test_what_can_be_done_again_does_not_wait_for_the_disk_and_what_was_promised_does(engine: Engine) -> None:
    record = AnalysisRecord(engine)
    waited = []
    # PostgreSQL writes by itself five times a second, and may do so just then.
    for _ in range(5):
        analysis_id = uuid.uuid4()
        before = written(engine, "insert")
        record.accept(Submission(analysis_id, b"digest"))
        assert written(engine, "flush") > before
        before = written(engine, "insert")
        prepares = claimed(record, analysis_id, PREPARE)
        record.advance(prepares, {})
        stacks = claimed(record, analysis_id, STACK)
        waited.append(written(engine, "flush") > before)
        before = written(engine, "insert")
        record.finish(stacks, RESULT)
        assert written(engine, "flush") > before
    assert not all(waited)


def test_a_connection_that_rested_is_asked_whether_it_still_stands(
    engine: Engine, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database_answers(engine)
    cut_off(postgres_url)
    monkeypatch.setattr(database, "TRUSTED_FOR_S", -1.0)
    assert database_answers(engine)


def test_one_in_use_is_not_asked_and_a_lost_one_costs_one_question(engine: Engine, postgres_url: str) -> None:
    assert database_answers(engine)
    asked = []
    ping = engine.dialect.do_ping
    engine.dialect.do_ping = lambda connection: asked.append(connection) or ping(connection)  # type: ignore[method-assign]
    assert database_answers(engine)
    assert not asked
    cut_off(postgres_url)
    assert not database_answers(engine)
    assert database_answers(engine)


def cut_off(url: str) -> None:
    """Ends all other connections to the test's database, as a restart of the server does."""
    admin = create_engine(url.replace("postgresql://", "postgresql+psycopg2://"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    admin.dispose()
