"""A photograph that brings its worker down is tried three times, buried with a reason, and can be dug out again."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text

from lesionlens.cli import main
from services.analysis.database import make_engine
from services.analysis.record import AnalysisRecord, Submission
from tests.conftest import lesion_photograph
from tests.e2e.product import DONE_WITHIN_S, Product, eventually


@pytest.fixture
def engine(product: Product) -> Iterator[Engine]:
    engine = make_engine(f"postgresql://postgres@/lesionlens?host={product.folder}/run/postgres")
    yield engine
    engine.dispose()


@pytest.fixture
def poison(product: Product) -> Iterator[Path]:
    """A photograph that nobody ever finishes reading: a pipe. Its worker hangs, and holds the lease, until it dies."""
    product.ended(product.accepted(lesion_photograph(1), force="true"))  # the folder is there
    pipe = product.folder / "blobs" / "uploads" / str(uuid.uuid4())
    os.mkfifo(pipe)
    yield pipe
    pipe.unlink(missing_ok=True)


def dead_letters(product: Product, *arguments: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(main, ["dead-letters", *arguments, "--json"], env=product.environment)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_what_kills_its_worker_three_times_is_failed_and_buried(product: Product, engine: Engine, poison: Path) -> None:
    analysis_id = uuid.UUID(poison.name)
    AnalysisRecord(engine).accept(Submission(analysis_id, b"poison", answer_within_s=3600))

    for delivery in (1, 2, 3):
        due_now(engine, analysis_id)
        eventually(lambda delivery=delivery: held(engine, analysis_id) == delivery, DONE_WITHIN_S)
        for worker in psutil.Process(product.pid_of("preprocessor")).children():
            worker.kill()
    due_now(engine, analysis_id)

    answer = product.ended(str(analysis_id))
    assert (answer["state"], answer["reason"]["code"]) == ("failed", "delivered_too_often")
    assert answer["reason"]["sentence"]
    letters = [letter for letter in dead_letters(product, "list") if letter["analysis"] == str(analysis_id)[:8]]
    assert [(letter["stage"], letter["deliveries"]) for letter in letters] == [("prepare", 3)]
    assert product.ended(product.accepted(lesion_photograph(2), force="true"))["state"] == "done", "others go on"

    poison.unlink()
    poison.write_bytes(lesion_photograph(3))
    assert dead_letters(product, "retry", str(letters[0]["id"])) == [{"id": letters[0]["id"], "outcome": "queued"}]
    assert product.ended(str(analysis_id))["state"] in ("done", "rejected")


def held(engine: Engine, analysis_id: uuid.UUID) -> int:
    """Which delivery of the analysis a worker is busy with now; 0: none."""
    with engine.connect() as connection:
        statement = text("SELECT deliveries FROM analysis WHERE id = :id AND lease_until > now()")
        return connection.execute(statement, {"id": analysis_id}).scalar_one_or_none() or 0


def due_now(engine: Engine, analysis_id: uuid.UUID) -> None:
    """As if the lease of a dead worker had run out, which takes LEASE_S."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE analysis SET due_at = now(), lease_until = CASE WHEN lease_until IS NOT NULL"
                " THEN now() - interval '1 s' END WHERE id = :id"
            ),
            {"id": analysis_id},
        )
