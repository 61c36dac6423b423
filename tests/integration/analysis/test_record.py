"""The record's promises: one outcome for each accepted upload, whoever dies."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import tenacity
from sqlalchemy import Connection, Engine, event, select, text
from sqlalchemy.exc import IntegrityError

from services.analysis.database import make_engine
from services.analysis.errors import (
    AnalysisGoneError,
    AnalysisNotFoundError,
    DatabaseUnavailableError,
    IdempotencyMismatchError,
    LeaseLostError,
)
from services.analysis.record import (
    AnalysisRecord,
    Exhausted,
    Feedback,
    Lease,
    NotClaimed,
    Submission,
    Upkeep,
    ownership,
)
from services.analysis.results import CLASSES, NETWORKS, Band, Explanation, NetworkOpinion, Reason, Result
from services.analysis.states import PREPARE, STACK, AnalysisState, Stage
from services.analysis.tables import BatchRow, PredictionRow

DIGESTS = (BatchRow.idempotency_key_digest, BatchRow.uploads_digest)
RESULT = Result(
    probability=0.25,
    band=Band.UNSURE,
    networks=tuple(NetworkOpinion(name, 1, index - 1.5, 0.5) for index, name in enumerate(NETWORKS)),
    classes=tuple((name, 1 / 7) for name in CLASSES),
    attention=tuple(tuple(0.5 for _ in range(7)) for _ in range(7)),
    model_version="1",
)


@pytest.fixture
def record(engine: Engine) -> AnalysisRecord:
    return AnalysisRecord(engine)


@pytest.fixture
def accept(record: AnalysisRecord) -> Callable[..., uuid.UUID]:
    def accept(**options: object) -> uuid.UUID:
        submission = Submission(analysis_id=uuid.uuid4(), upload_digest=b"photo", **options)  # type: ignore[arg-type]
        return record.accept(submission).id

    return accept


def claim(record: AnalysisRecord, analysis_id: uuid.UUID, stage: Stage, lease_s: float = 20.0) -> Lease:
    lease = record.claim(analysis_id, stage, lease_s=lease_s, max_deliveries=3)
    assert isinstance(lease, Lease)
    return lease


def finished(record: AnalysisRecord, analysis_id: uuid.UUID) -> None:
    record.advance(claim(record, analysis_id, PREPARE), {"hair_share": 0.01})
    record.finish(claim(record, analysis_id, STACK), RESULT)


def expire_lease(engine: Engine, analysis_id: uuid.UUID) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE analysis SET lease_until = now() - interval '1 s', due_at = now() WHERE id = :id"),
            {"id": analysis_id},
        )


def test_the_way_of_one_analysis(record: AnalysisRecord, accept: Callable[..., uuid.UUID]) -> None:
    analysis_id = accept(turns=4)
    assert record.find(analysis_id).state is AnalysisState.QUEUED
    lease = claim(record, analysis_id, PREPARE)
    assert lease.turns == 4
    assert record.find(analysis_id).state is AnalysisState.PREPARING
    record.advance(lease, {"hair_share": 0.01})
    assert record.find(analysis_id).state is AnalysisState.PREPARED
    lease = claim(record, analysis_id, STACK)
    assert lease.delivery == 1, "each stage counts its own deliveries"
    record.finish(lease, RESULT)
    analysis = record.find(analysis_id)
    assert analysis.state is AnalysisState.DONE
    assert analysis.result == RESULT
    assert analysis.preparation == {"hair_share": 0.01}


def test_a_claimed_analysis_cannot_be_claimed_again(record: AnalysisRecord, accept: Callable[..., uuid.UUID]) -> None:
    analysis_id = accept()
    claim(record, analysis_id, PREPARE)
    assert record.claim(analysis_id, PREPARE, 20.0, 3) == NotClaimed()


@pytest.mark.parametrize("state", ["queued", "done"])
def test_only_an_analysis_that_waits_for_the_stage_can_be_claimed(
    record: AnalysisRecord, accept: Callable[..., uuid.UUID], state: str
) -> None:
    analysis_id = accept()
    if state == "done":
        finished(record, analysis_id)
    assert record.claim(analysis_id, STACK, 20.0, 3) == NotClaimed()


def test_the_work_of_a_worker_whose_lease_ran_out_is_thrown_away(
    record: AnalysisRecord, engine: Engine, accept: Callable[..., uuid.UUID]
) -> None:
    analysis_id = accept()
    slow = claim(record, analysis_id, PREPARE)
    expire_lease(engine, analysis_id)
    quick = claim(record, analysis_id, PREPARE)
    with pytest.raises(LeaseLostError):
        record.reject(slow, Reason("blank", "…"))
    record.advance(quick, {})
    with pytest.raises(LeaseLostError):
        record.advance(slow, {})
    assert record.find(analysis_id).state is AnalysisState.PREPARED


def test_a_result_is_never_recorded_twice(
    record: AnalysisRecord, engine: Engine, accept: Callable[..., uuid.UUID]
) -> None:
    analysis_id = accept()
    record.advance(claim(record, analysis_id, PREPARE), {})
    slow = claim(record, analysis_id, STACK)
    expire_lease(engine, analysis_id)
    record.finish(claim(record, analysis_id, STACK), RESULT)
    with pytest.raises(LeaseLostError):
        record.finish(slow, RESULT)
    with engine.connect() as connection:
        rows = connection.execute(select(PredictionRow.network)).scalars().all()
    assert sorted(rows) == sorted(NETWORKS)


def test_the_fourth_delivery_is_not_begun_and_fails_the_analysis(
    record: AnalysisRecord, engine: Engine, accept: Callable[..., uuid.UUID]
) -> None:
    analysis_id = accept()
    for delivery in (1, 2, 3):
        assert claim(record, analysis_id, PREPARE).delivery == delivery
        expire_lease(engine, analysis_id)
    assert record.claim(analysis_id, PREPARE, 20.0, 3) == Exhausted(store=True)
    analysis = record.find(analysis_id)
    assert analysis.state is AnalysisState.FAILED
    assert analysis.reason is not None
    assert analysis.reason.code == "delivered_too_often"


def test_a_retried_analysis_keeps_its_count_and_becomes_due(
    record: AnalysisRecord, accept: Callable[..., uuid.UUID]
) -> None:
    analysis_id = accept()
    record.retry_later(claim(record, analysis_id, PREPARE), delay_s=0)
    assert record.take_due(10) == ((PREPARE, analysis_id),)
    assert record.take_due(10) == (), "once taken it is not due again at once"
    assert claim(record, analysis_id, PREPARE).delivery == 2


def test_the_sweeper_sees_expired_leases_in_their_stage(
    record: AnalysisRecord, engine: Engine, accept: Callable[..., uuid.UUID]
) -> None:
    waiting, held, finished_one = accept(), accept(), accept()
    record.advance(claim(record, held, PREPARE), {})
    claim(record, held, STACK)
    finished(record, finished_one)
    expire_lease(engine, held)
    assert record.take_due(10) == ((STACK, held),)
    assert record.find(waiting).state is AnalysisState.QUEUED


def test_the_same_idempotency_key_gives_the_same_analysis(
    record: AnalysisRecord, accept: Callable[..., uuid.UUID]
) -> None:
    first = accept(idempotency_key_digest=b"key")
    assert accept(idempotency_key_digest=b"key") == first
    assert accept(idempotency_key_digest=b"other") != first
    with pytest.raises(IdempotencyMismatchError):
        record.accept(Submission(uuid.uuid4(), upload_digest=b"another", idempotency_key_digest=b"key"))
    with pytest.raises(IdempotencyMismatchError):
        record.accept(Submission(uuid.uuid4(), b"photo", idempotency_key_digest=b"key", force=True))
    with pytest.raises(IdempotencyMismatchError):
        record.accept(Submission(uuid.uuid4(), b"photo", idempotency_key_digest=b"key", turns=8))
    with pytest.raises(IdempotencyMismatchError):
        record.accept(Submission(uuid.uuid4(), b"photo", idempotency_key_digest=b"key", age_years=61))


@pytest.fixture
def between_the_statements(engine: Engine) -> Callable[[Callable[[], None]], None]:
    """Does something once, after an insertion that found its Idempotency-Key taken and before the look for whose."""

    def arrange(done: Callable[[], None]) -> None:
        todo = [done]

        @event.listens_for(engine, "after_cursor_execute")
        def found_taken(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
            if todo and "ON CONFLICT (idempotency_key_digest)" in statement and cursor.rowcount == 0:
                todo.pop()()

    return arrange


def test_an_upload_repeated_while_the_first_is_deleted_is_accepted_anew(
    record: AnalysisRecord,
    accept: Callable[..., uuid.UUID],
    between_the_statements: Callable[[Callable[[], None]], None],
) -> None:
    first = accept(idempotency_key_digest=b"key")
    between_the_statements(lambda: record.delete(first))

    again = accept(idempotency_key_digest=b"key")

    assert again != first
    assert record.find(again).state is AnalysisState.QUEUED
    assert accept(idempotency_key_digest=b"key") == again


def test_a_batch_repeated_while_the_first_is_deleted_is_accepted_anew(
    record: AnalysisRecord, between_the_statements: Callable[[Callable[[], None]], None]
) -> None:
    def send() -> tuple[uuid.UUID, ...]:
        submissions = [Submission(uuid.uuid4(), b"photo") for _ in range(2)]
        return tuple(analysis.id for analysis in record.accept_batch(uuid.uuid4(), submissions, b"key"))

    first = send()

    def delete_all() -> None:
        for analysis_id in first:
            record.delete(analysis_id)

    between_the_statements(delete_all)

    again = send()

    assert not set(again) & set(first)
    assert send() == again


def test_deletion_leaves_nothing_but_the_fact(
    record: AnalysisRecord, engine: Engine, accept: Callable[..., uuid.UUID]
) -> None:
    analysis_id = accept(age_years=61)
    record.advance(claim(record, analysis_id, PREPARE), {"hair_share": 0.01})
    record.finish(claim(record, analysis_id, STACK), replace(RESULT, without_age=0.2))
    record.add_feedback(analysis_id, Feedback("mel", "biopsy", consent=True))
    record.delete(analysis_id)
    record.delete(analysis_id)
    with pytest.raises(AnalysisGoneError):
        record.find(analysis_id)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM prediction")).scalar_one() == 0
        assert connection.execute(text("SELECT count(*) FROM feedback")).scalar_one() == 0
        row = connection.execute(
            text("SELECT preparation, probability, classes, age_years, without_age, upload_digest FROM analysis")
        ).one()
    assert tuple(row) == (None, None, None, None, None, b"")


def test_the_age_is_handed_to_the_stage_and_told_with_the_answer(
    record: AnalysisRecord, accept: Callable[..., uuid.UUID]
) -> None:
    analysis_id = accept(age_years=61)
    record.advance(claim(record, analysis_id, PREPARE), {})
    lease = claim(record, analysis_id, STACK)
    assert lease.age_years == 61
    explanation = Explanation(intercept=-0.9, low_below=0.1, high_from=0.5, networks=(), of_age=0.3)
    record.finish(lease, replace(RESULT, without_age=0.2, explanation=explanation))
    told = record.find(analysis_id)
    assert told.age_years == 61
    assert told.result is not None
    assert (told.result.without_age, told.result.explanation) == (0.2, explanation)


def test_a_deleted_analysis_is_lost_to_its_worker(record: AnalysisRecord, accept: Callable[..., uuid.UUID]) -> None:
    analysis_id = accept()
    lease = claim(record, analysis_id, PREPARE)
    record.delete(analysis_id)
    with pytest.raises(LeaseLostError):
        record.advance(lease, {})


def test_an_unknown_analysis_is_not_found(record: AnalysisRecord) -> None:
    with pytest.raises(AnalysisNotFoundError):
        record.find(uuid.uuid4())
    with pytest.raises(AnalysisNotFoundError):
        record.delete(uuid.uuid4())


def test_photographs_that_must_not_be_stored_are_past_retention_at_once(
    record: AnalysisRecord, accept: Callable[..., uuid.UUID]
) -> None:
    kept, not_kept, unfinished = accept(), accept(store=False), accept(store=False)
    for analysis_id in (kept, not_kept):
        finished(record, analysis_id)
    assert record.images_past_retention(24, 10) == (not_kept,)
    record.images_deleted(not_kept)
    assert record.images_past_retention(24, 10) == ()
    assert set(record.images_past_retention(0, 10)) == {kept}
    assert record.find(unfinished).images_deleted_at is None


def test_a_photograph_with_consent_stays_until_the_consent_is_revoked(
    record: AnalysisRecord, accept: Callable[..., uuid.UUID]
) -> None:
    agreed, silent, not_kept = accept(), accept(), accept(store=False)
    for analysis_id in (agreed, silent, not_kept):
        finished(record, analysis_id)
    consent = Feedback("mel", "biopsy", consent=True)
    record.add_feedback(agreed, consent)
    record.add_feedback(silent, Feedback("nv", "self", consent=False))
    record.add_feedback(not_kept, Feedback("nv", "self", consent=True))
    assert set(record.images_past_retention(0, 10)) == {silent, not_kept}
    record.revoke_feedback(agreed, consent.id)
    assert set(record.images_past_retention(0, 10)) == {agreed, silent, not_kept}
    assert record.results_past_retention(0, 10)  # the clock of results asks nobody


def test_feedback_that_comes_while_its_analysis_is_deleted_leaves_nothing(
    record: AnalysisRecord, accept: Callable[..., uuid.UUID], engine: Engine
) -> None:
    """The page asks whether the analysis is there, and says what it was confirmed as a moment later."""
    analysis_id = accept()
    finished(record, analysis_id)
    record.delete(analysis_id)
    with pytest.raises(AnalysisGoneError):
        record.add_feedback(analysis_id, Feedback("mel", "biopsy", consent=True))
    with engine.begin() as connection:
        count = text("SELECT count(*) FROM feedback WHERE analysis_id = :id")
        assert connection.execute(count, {"id": analysis_id}).scalar_one() == 0


def test_feedback_stands_until_it_is_revoked(record: AnalysisRecord, accept: Callable[..., uuid.UUID]) -> None:
    analysis_id, other = accept(), accept()
    finished(record, analysis_id)
    first, second = Feedback("mel", "biopsy", consent=True), Feedback("other", "self", consent=False)
    record.add_feedback(analysis_id, first)
    record.add_feedback(analysis_id, second)
    assert record.standing_feedback(analysis_id) == (first, second)
    assert record.standing_feedback(other) == ()
    record.revoke_feedback(analysis_id, first.id)
    assert record.standing_feedback(analysis_id) == (second,)
    with pytest.raises(AnalysisNotFoundError):
        record.standing_feedback(uuid.uuid4())


def test_results_past_retention_are_found_until_they_are_deleted(
    record: AnalysisRecord, accept: Callable[..., uuid.UUID]
) -> None:
    analysis_id = accept()
    finished(record, analysis_id)
    assert record.results_past_retention(30, 10) == ()
    assert record.results_past_retention(0, 10) == (analysis_id,)
    record.delete(analysis_id)
    assert record.results_past_retention(0, 10) == ()


def test_a_batch_keeps_the_order_of_its_uploads_and_what_was_refused(record: AnalysisRecord) -> None:
    batch_id = uuid.uuid4()
    refusal = Reason("not_an_image", "This file is not an image.")
    uploads = [Submission(uuid.uuid4(), b"digest", refusal=refusal if position == 1 else None) for position in range(3)]
    accepted = record.accept_batch(batch_id, uploads)
    assert [analysis.id for analysis in accepted] == [upload.analysis_id for upload in uploads]
    assert [analysis.state.value for analysis in accepted] == ["queued", "rejected", "queued"]
    assert accepted[1].reason == refusal
    assert accepted[1].images_deleted_at is not None
    assert record.batch(batch_id) == accepted


def test_a_batch_is_recorded_as_a_whole_or_not_at_all(record: AnalysisRecord) -> None:
    batch_id, twice = uuid.uuid4(), Submission(uuid.uuid4(), b"digest")
    with pytest.raises(IntegrityError):
        record.accept_batch(batch_id, [twice, twice])
    with pytest.raises(AnalysisNotFoundError):
        record.batch(uuid.uuid4())


@pytest.mark.parametrize(
    ("past_retention", "index"),
    [(Upkeep.images_past_retention, "ix_analysis_images"), (Upkeep.results_past_retention, "ix_analysis_finished_at")],
)
def test_the_sweep_reads_an_index_and_not_the_table(
    record: AnalysisRecord, engine: Engine, past_retention: Callable[..., object], index: str
) -> None:
    asked: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda *of: asked.append(of[2:4]))
    past_retention(record, 24, 200)
    ((statement, values),) = asked
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))  # the table is empty, and nothing cheaper to read
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", values).scalars())
    assert f" {index} " in plan
    assert "Seq Scan on analysis" not in plan


def digests(engine: Engine) -> list[tuple[bytes | None, bytes | None]]:
    with engine.connect() as connection:
        return [(row[0], row[1]) for row in connection.execute(select(*DIGESTS))]


def test_a_batch_keeps_digests_until_the_last_of_it_is_deleted(record: AnalysisRecord, engine: Engine) -> None:
    uploads = [Submission(uuid.uuid4(), name) for name in (b"one", b"other")]
    record.accept_batch(uuid.uuid4(), uploads, b"key")
    record.delete(uploads[0].analysis_id)
    assert all(digests(engine)[0])
    record.delete(uploads[1].analysis_id)
    assert digests(engine) == [(None, None)]
    record.accept_batch(uuid.uuid4(), [Submission(uuid.uuid4(), b"another")], b"key")


def test_a_batch_without_a_key_keeps_no_digest(record: AnalysisRecord, engine: Engine) -> None:
    record.accept_batch(uuid.uuid4(), [Submission(uuid.uuid4(), b"photo")])
    assert digests(engine) == [(None, None)]


def test_the_last_two_of_a_batch_deleted_at_once_leave_no_digests(
    record: AnalysisRecord, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = [Submission(uuid.uuid4(), name) for name in (b"one", b"other")]
    record.accept_batch(uuid.uuid4(), uploads, b"key")
    announce = ownership.announce
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor(1) as threads:
        others: list[Future[None]] = []

        def announced_while_the_other_one_is_deleted(connection: Connection, analysis_id: uuid.UUID) -> None:
            monkeypatch.setattr(ownership, "announce", announce)
            others.append(threads.submit(record.delete, uploads[1].analysis_id))
            for attempt in tenacity.Retrying(stop=tenacity.stop_after_delay(30), wait=tenacity.wait_fixed(0.01)):
                with attempt, engine.connect() as looking:
                    assert others[0].done() or looking.execute(waiting).scalar_one()
            announce(connection, analysis_id)

        monkeypatch.setattr(ownership, "announce", announced_while_the_other_one_is_deleted)
        record.delete(uploads[0].analysis_id)
        others[0].result(30)
    assert digests(engine) == [(None, None)]


def test_the_backlog_counts_what_waits_for_each_stage(record: AnalysisRecord, accept: Callable[..., uuid.UUID]) -> None:
    accept()
    record.advance(claim(record, accept(), PREPARE), {})
    assert [(backlog.stage, backlog.waiting) for backlog in record.backlog()] == [(PREPARE, 1), (STACK, 1)]


@pytest.mark.parametrize("counted", [True, False])
def test_what_is_tried_again_and_again_has_waited_since_it_came_to_its_stage(
    record: AnalysisRecord, accept: Callable[..., uuid.UUID], engine: Engine, counted: bool
) -> None:
    analysis_id = accept()
    for stage in (PREPARE, STACK):
        with engine.begin() as connection:
            connection.execute(text("UPDATE analysis SET updated_at = now() - interval '1 min'"))
        record.retry_later(claim(record, analysis_id, stage), 0, counted=counted)

        waits_s = {backlog.stage: backlog.oldest_s for backlog in record.backlog() if backlog.waiting}
        assert waits_s == {stage: pytest.approx(60, abs=10)}
        # What was begun is somebody's work already; what was never counted as begun is not.
        assert record.pressure().oldest_s == (0 if counted else pytest.approx(60, abs=10))
        if stage is PREPARE:
            record.advance(claim(record, analysis_id, stage), {})
            assert record.pressure().oldest_s == pytest.approx(0, abs=10), "another stage, another wait"


@pytest.mark.parametrize(
    "nonsense",
    [
        "state = 'done'",
        "state = 'rejected'",
        "state = 'stacking'",
        "finished_at = now()",
        "probability = 0.5",
        "deliveries = -1",
        "due_at = NULL",
        "turns = 3",
        "age_years = -1",
        "age_years = 121",
        "without_age = 1.1",
    ],
)
def test_nonsense_cannot_be_stored(engine: Engine, accept: Callable[..., uuid.UUID], nonsense: str) -> None:
    accept()
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(text(f"UPDATE analysis SET {nonsense}"))


def test_a_database_that_does_not_answer_is_said_so() -> None:
    engine = make_engine("postgresql://nobody@127.0.0.1:9/nowhere")
    with pytest.raises(DatabaseUnavailableError):
        AnalysisRecord(engine).find(uuid.uuid4())
