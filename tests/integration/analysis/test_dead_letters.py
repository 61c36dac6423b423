"""What fails on our side is a dead letter, once, and can be tried again from its beginning."""

from __future__ import annotations

import json
import uuid

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text

from lesionlens.cli import main
from services.analysis.dead_letters import DeadLetters, Retry
from services.analysis.record import OUT_OF_TIME, AnalysisRecord, Exhausted, Lease, NotClaimed, Submission
from services.analysis.results import Reason
from services.analysis.states import PREPARE, STACK, AnalysisState

AWAY = Reason("network_unavailable", "A network was away.")


@pytest.fixture
def record(engine: Engine) -> AnalysisRecord:
    return AnalysisRecord(engine)


@pytest.fixture
def letters(engine: Engine) -> DeadLetters:
    return DeadLetters(engine)


def accept(record: AnalysisRecord, answer_within_s: float | None = None) -> uuid.UUID:
    return record.accept(Submission(uuid.uuid4(), b"photo", answer_within_s=answer_within_s)).id


def abandon(engine: Engine, analysis_id: uuid.UUID) -> None:
    """What a worker leaves that dies: a lease that runs out."""
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE analysis SET lease_until = now() - interval '1 s', due_at = now() WHERE id = :id"),
            {"id": analysis_id},
        )


def failed(record: AnalysisRecord, analysis_id: uuid.UUID) -> None:
    lease = record.claim(analysis_id, PREPARE, 20, 3)
    assert isinstance(lease, Lease)
    record.advance(lease, {})
    lease = record.claim(analysis_id, STACK, 20, 3)
    assert isinstance(lease, Lease)
    record.fail(lease, AWAY)


def test_what_kills_a_worker_three_times_is_one_dead_letter(
    record: AnalysisRecord, letters: DeadLetters, engine: Engine
) -> None:
    analysis_id = accept(record)
    for _ in range(3):
        assert isinstance(record.claim(analysis_id, PREPARE, 20, 3), Lease)
        abandon(engine, analysis_id)
    assert isinstance(record.claim(analysis_id, PREPARE, 20, 3), Exhausted)
    assert isinstance(record.claim(analysis_id, PREPARE, 20, 3), NotClaimed)

    (letter,) = letters.all()
    assert (letter.analysis_id, letter.stage, letter.deliveries) == (analysis_id, "prepare", 3)
    assert letter.reason_code == "delivered_too_often"
    assert letters.count() == 1


def test_a_failure_is_a_dead_letter_and_a_rejection_is_none(record: AnalysisRecord, letters: DeadLetters) -> None:
    rejected, analysis_id = accept(record), accept(record)
    lease = record.claim(rejected, PREPARE, 20, 3)
    assert isinstance(lease, Lease)
    record.reject(lease, Reason("blurred", "Blurred."))
    failed(record, analysis_id)

    assert [(letter.analysis_id, letter.stage) for letter in letters.all()] == [(analysis_id, "stack")]


def test_another_try_begins_anew_with_all_tries(record: AnalysisRecord, letters: DeadLetters) -> None:
    analysis_id = accept(record)
    failed(record, analysis_id)
    (letter,) = letters.all()

    assert letters.retry(letter.id, 60) is Retry.QUEUED

    assert record.find(analysis_id).state is AnalysisState.QUEUED
    assert record.find(analysis_id).reason is None
    assert record.take_due(10) == ((PREPARE, analysis_id),), "the sweeper rings at once"
    lease = record.claim(analysis_id, PREPARE, 20, 3)
    assert isinstance(lease, Lease)
    assert lease.delivery == 1
    assert lease.time_left_s == pytest.approx(60, abs=5)
    assert letters.all() == ()
    assert len(letters.all(retried_too=True)) == 1
    assert letters.retry(letter.id, 60) is Retry.NOT_FAILED


def test_without_a_photograph_nothing_is_tried_again(record: AnalysisRecord, letters: DeadLetters) -> None:
    analysis_id = accept(record)
    failed(record, analysis_id)
    record.images_deleted(analysis_id)

    (letter,) = letters.all()
    assert letters.count() == 1
    assert letters.retry(letter.id, 60) is Retry.IMAGE_GONE
    assert letters.retry(uuid.uuid4(), 60) is Retry.UNKNOWN
    assert record.find(analysis_id).state is AnalysisState.FAILED

    assert letters.count() == 0, "nobody can do anything about it, so nobody is called for it"
    assert [seen.id for seen in letters.all(retried_too=True)] == [letter.id]
    assert letters.retry(letter.id, 60) is Retry.IMAGE_GONE


def test_a_deleted_analysis_leaves_no_dead_letter(record: AnalysisRecord, letters: DeadLetters) -> None:
    analysis_id = accept(record)
    failed(record, analysis_id)
    record.delete(analysis_id)

    assert letters.all(retried_too=True) == ()


def test_what_should_have_been_answered_by_now_is_not_begun(
    record: AnalysisRecord, letters: DeadLetters, engine: Engine
) -> None:
    in_time, late = accept(record, answer_within_s=60), accept(record, answer_within_s=60)
    with engine.begin() as connection:
        connection.execute(text("UPDATE analysis SET answer_by = now() WHERE id = :id"), {"id": late})

    assert record.postpone(in_time, PREPARE, 5)
    assert not record.postpone(late, PREPARE, 5), "waiting for a network must not keep it for ever"
    assert isinstance(record.claim(in_time, PREPARE, 20, 3), Lease)
    assert record.claim(late, PREPARE, 20, 3) == Exhausted(store=True, reason=OUT_OF_TIME)
    assert [letter.reason_code for letter in letters.all()] == ["out_of_time"]


def test_the_command_line_lists_and_tries_again(
    record: AnalysisRecord, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    analysis_id = accept(record)
    failed(record, analysis_id)

    listed = CliRunner().invoke(main, ["dead-letters", "list", "--json"])
    assert listed.exit_code == 0, listed.output
    letter = json.loads(listed.stdout)
    assert letter["reason"] == "network_unavailable"
    assert str(analysis_id) not in listed.output, "an id opens the answer"

    retried = CliRunner().invoke(main, ["dead-letters", "retry", letter["id"]])
    assert retried.exit_code == 0, retried.output
    assert record.find(analysis_id).state is AnalysisState.QUEUED
    assert CliRunner().invoke(main, ["dead-letters", "retry", letter["id"]]).exit_code == 1
    assert CliRunner().invoke(main, ["dead-letters", "retry"]).exit_code == 2
    assert CliRunner().invoke(main, ["dead-letters", "list"]).stdout == ""


def test_trying_all_again_tells_of_those_whose_photograph_is_gone(
    record: AnalysisRecord, letters: DeadLetters, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    stored, gone = accept(record), accept(record)
    for analysis_id in (stored, gone):
        failed(record, analysis_id)
    record.images_deleted(gone)

    retried = CliRunner().invoke(main, ["dead-letters", "retry", "--all", "--json"])

    assert retried.exit_code == 1
    assert [json.loads(line)["outcome"] for line in retried.stdout.splitlines()] == ["queued", "image_gone"]
    assert record.find(stored).state is AnalysisState.QUEUED
    assert letters.count() == 0
