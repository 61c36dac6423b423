"""The audit log can be added to, read, forgotten after its time, and not changed."""

from __future__ import annotations

import datetime as dt
import json
import uuid

import pytest
from click.testing import CliRunner
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from lesionlens.cli import main
from services.analysis import audit
from services.analysis.audit import AuditLog


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_event SET outcome = '200'", "DELETE FROM audit_event", "TRUNCATE audit_event",
     "UPDATE audit_event SET at = now() - interval '2 years'"],
)  # fmt: skip
def test_the_database_refuses_to_change_a_line(engine, statement):
    AuditLog(engine).note("analyses.delete", "204", subject=uuid.uuid4())
    with pytest.raises(DBAPIError, match="can only be added to"), engine.begin() as connection:
        connection.execute(text(statement))
    assert len(list(AuditLog(engine).events())) == 1


def test_lines_are_forgotten_after_a_year_and_not_before(engine):
    log = AuditLog(engine)
    log.note("new", "204")
    with engine.begin() as connection:
        for days in (364, 366):
            connection.execute(
                text("INSERT INTO audit_event (at, action, outcome) VALUES (:at, 'old', '204')"),
                {"at": dt.datetime.now(dt.UTC) - dt.timedelta(days=days)},
            )
    assert log.forget(365) == 1
    assert log.forget(365) == 0
    assert sorted(event.action for event in log.events()) == ["new", "old"]


def test_all_lines_whose_time_is_over_go_however_many_there_are(engine, monkeypatch):
    monkeypatch.setattr(audit, "_FORGET_AT_ONCE", 2)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO audit_event (at, action, outcome)"
                " SELECT now() - interval '366 days', 'old', '204' FROM generate_series(1, 5)"
            )
        )
    assert AuditLog(engine).forget(365) == 5


def test_a_whole_id_does_not_fit_into_a_line(engine):
    analysis_id = uuid.uuid4()
    AuditLog(engine).note("analyses.upload", "202", subject=analysis_id)
    assert next(AuditLog(engine).events()).subject == str(analysis_id)[:8]
    with pytest.raises(DBAPIError, match="subject_opens_nothing"), engine.begin() as connection:
        connection.execute(
            text("INSERT INTO audit_event (action, outcome, subject) VALUES ('x', '1', :id)"), {"id": str(analysis_id)}
        )


def test_the_log_is_read_by_command(engine, postgres_url):
    key_id = uuid.uuid4()
    AuditLog(engine).note("analyses.upload", "202", key_id, uuid.uuid4())
    AuditLog(engine).note("analyses.delete", "404")
    told = CliRunner().invoke(main, ["audit", "--json"], env={"DATABASE_URL": postgres_url})
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(line["who"], line["what"], line["outcome"]) for line in lines] == [
        (str(key_id), "analyses.upload", "202"), ("anonymous", "analyses.delete", "404"),
    ]  # fmt: skip
    assert "anonymous" in CliRunner().invoke(main, ["audit", "--limit", "1"], env={"DATABASE_URL": postgres_url}).stdout
    later = CliRunner().invoke(main, ["audit", "--since", "2100-01-01"], env={"DATABASE_URL": postgres_url})
    assert later.stdout == ""
