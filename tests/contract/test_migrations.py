"""The migrations make exactly the tables that the code declares, and can be undone."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Engine, inspect, text

from services.analysis.migrations import migrate
from services.analysis.tables import Base


def test_the_migrated_schema_is_the_declared_one(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        # Alembic does not compare CHECK constraints, so their names are compared here.
        found = {
            (table, check["name"])
            for table in Base.metadata.tables
            for check in inspect(connection).get_check_constraints(table)
        }
    declared = {
        (table.name, constraint.name)
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert found == {(table, str(name)) for table, name in declared}


def test_migrations_can_be_undone_and_done_again(engine: Engine) -> None:
    migrate(engine, "base")
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) <= {"alembic_version"}
        assert connection.execute(text("SELECT count(*) FROM pg_type WHERE typname = 'analysis_state'")).scalar() == 0
    migrate(engine)
    migrate(engine)
    with engine.connect() as connection:
        assert "analysis" in inspect(connection).get_table_names()


def test_digests_of_batches_that_cannot_be_repeated_go_with_the_update(engine: Engine) -> None:
    migrate(engine, "base")
    migrate(engine, "0007")
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO batch (id, idempotency_key_digest, uploads_digest) VALUES"
                " (gen_random_uuid(), 'there', ''), (gen_random_uuid(), 'deleted', ''), (gen_random_uuid(), NULL, '')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO analysis (id, state, due_at, upload_digest, batch_id, batch_position)"
                " SELECT gen_random_uuid(), 'queued', now(), '', id, 0 FROM batch"
                " WHERE idempotency_key_digest = 'there'"
            )
        )
    migrate(engine)
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT idempotency_key_digest FROM batch WHERE uploads_digest IS NOT NULL"))
        assert [bytes(digest) for digest in kept.scalars()] == [b"there"]


def test_an_older_release_refuses_a_newer_schema_in_one_line(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("LOG_FORMAT", "json")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_the_next_release'"))

    done = subprocess.run([sys.executable, "-m", "lesionlens.migrate"], text=True, capture_output=True, check=False)

    assert done.returncode == 1
    (line,) = [line for line in map(json.loads, done.stderr.splitlines()) if "why" in line]
    assert "9999_the_next_release" in line["why"]
    assert "backup" in line["advice"]
