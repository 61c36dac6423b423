"""What the gateway tells about an analysis, from its upload to its deletion."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import replace

import pytest
from sqlalchemy import text

from services.analysis.errors import LeaseLostError
from services.analysis.results import Explanation, NetworkExplanation
from services.analysis.states import PREPARE, STACK
from services.gateway.api.schemas import AnalysisSchema
from services.stacker.look import NOT_A_LESION
from tests.integration.gateway.conftest import BLURRED, RESULT, photograph

PROBLEM = "application/problem+json"


def assert_problem(response, status, slug):
    assert (response.status_code, response.content_type) == (status, PROBLEM)
    assert response.json["type"] == f"/problems/{slug}"


@pytest.fixture
def analysis_id(upload) -> uuid.UUID:
    return uuid.UUID(upload().json["id"])


@pytest.fixture
def address(analysis_id) -> str:
    return f"/v1/analyses/{analysis_id}"


def in_another_thread(action):
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def until(condition, seconds=10):
    """Waits for the listener's thread to reach a point that only the database shows."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def listening(engine):
    with engine.connect() as connection:
        return connection.execute(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lesionlens-changes'"
                " AND datname = current_database() AND query LIKE 'LISTEN%' AND state = 'idle'"
            )
        ).scalar_one()


def test_the_states_are_told_as_they_come(client, workers, parts, address, analysis_id):
    assert client.get(address).json["state"] == "queued"
    lease = workers.begin(analysis_id, PREPARE)
    assert client.get(address).json["state"] == "preparing"
    parts.record.advance(lease, {})
    assert client.get(address).json["state"] == "prepared"
    workers.begin(analysis_id, STACK)
    answer = client.get(address)
    assert answer.json["state"] == "stacking"
    assert answer.headers["Retry-After"] == "1"
    assert "waiting_ahead" not in answer.json
    assert "result" not in answer.json


def test_a_result_is_told_in_full(client, workers, address, analysis_id):
    workers.finish(analysis_id)
    answer = client.get(address)
    result = answer.json["result"]
    assert AnalysisSchema().validate(answer.json) == {}
    assert result["probability"] == 0.34
    assert result["band"] == "unsure"
    assert [network["name"] for network in result["networks"]] == [
        "mobilenet",
        "densenet121",
        "densenet169",
        "nasnetmobile",
    ]
    assert [network["logit"] for network in result["networks"]] == [-0.5, 0.25, 1.5, -2.0]
    assert [diagnosis["name"] for diagnosis in result["classes"] if diagnosis["malignant"]] == [
        "mel",
        "bcc",
        "akiec",
    ]
    assert result["concerns"] == [{"code": "glare", "sentence": "There is glare on the skin."}]
    assert result["guidance"]["urgency"] == "soon"
    assert "not a diagnosis" in result["disclaimer"]
    assert "Retry-After" not in answer.headers


def test_a_rejection_is_told_with_its_reason(client, workers, address, analysis_id):
    workers.reject(analysis_id)
    answer = client.get(address)
    assert AnalysisSchema().validate(answer.json) == {}
    assert answer.json["state"] == "rejected"
    assert answer.json["reason"]["code"] == "blurred"
    assert "result" not in answer.json


def test_the_same_answer_is_not_sent_twice(client, workers, address, analysis_id):
    first = client.get(address)
    headers = {"If-None-Match": first.headers["ETag"]}
    unchanged = client.get(address, headers=headers)
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    workers.prepare(analysis_id)
    changed = client.get(address, headers=headers)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != first.headers["ETag"]


@pytest.mark.parametrize(
    "nonsense", ["nonsense", "0", "{12345678-1234-4234-8234-123456789012}", "123456781234423482341234567890ab"]
)
def test_a_malformed_id_names_nothing(client, nonsense):
    assert_problem(client.get(f"/v1/analyses/{nonsense}"), 404, "analysis-not-found")


def test_an_unknown_id_names_nothing(client):
    assert_problem(client.get(f"/v1/analyses/{uuid.uuid4()}"), 404, "analysis-not-found")
    assert_problem(client.delete(f"/v1/analyses/{uuid.uuid4()}"), 404, "analysis-not-found")


# --- waiting ---------------------------------------------------------------------------------------------------


def test_a_long_poll_is_woken_by_the_end_not_by_the_clock(app, engine, workers, address, analysis_id):
    answers = []
    thread = in_another_thread(lambda: answers.append(app.test_client().get(address, headers={"Prefer": "wait=20"})))
    until(lambda: listening(engine))
    began = time.monotonic()
    workers.finish(analysis_id)
    thread.join(10)
    (answer,) = answers
    assert (answer.status_code, answer.json["state"]) == (200, "done")
    assert answer.headers["Preference-Applied"] == "wait=20"
    # Well below the second after which a waiter looks for itself.
    assert time.monotonic() - began < 0.9


def test_with_an_etag_a_long_poll_ends_at_the_next_change(app, client, engine, workers, address, analysis_id):
    headers = {"Prefer": "wait=20", "If-None-Match": client.get(address).headers["ETag"]}
    answers = []
    thread = in_another_thread(lambda: answers.append(app.test_client().get(address, headers=headers)))
    until(lambda: listening(engine))
    workers.begin(analysis_id, PREPARE)
    thread.join(10)
    assert [(answer.status_code, answer.json["state"]) for answer in answers] == [(200, "preparing")]


def test_a_long_poll_without_news_ends_in_time_with_304(client, address):
    headers = {"Prefer": "wait=1", "If-None-Match": client.get(address).headers["ETag"]}
    began = time.monotonic()
    assert client.get(address, headers=headers).status_code == 304
    assert 0.9 < time.monotonic() - began < 3


def test_a_lost_listener_is_connected_again(app, engine, workers, address, analysis_id):
    answers = []
    thread = in_another_thread(lambda: answers.append(app.test_client().get(address, headers={"Prefer": "wait=20"})))
    until(lambda: listening(engine))
    with engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'lesionlens-changes' AND datname = current_database()"
            )
        )
    until(lambda: listening(engine))
    workers.finish(analysis_id)
    thread.join(10)
    assert [answer.json["state"] for answer in answers] == ["done"]


def test_waiters_leave_room_for_everybody_else(app, client, engine, parts, address):
    # Four threads: two may wait.
    answers = []
    threads = [
        in_another_thread(lambda: answers.append(app.test_client().get(address, headers={"Prefer": "wait=20"})))
        for _ in range(2)
    ]
    until(lambda: parts.changes.waiting == 2)
    began = time.monotonic()
    third = client.get(address, headers={"Prefer": "wait=20"})
    assert time.monotonic() - began < 1
    assert "Preference-Applied" not in third.headers
    parts.drain()
    for thread in threads:
        thread.join(5)
    # Draining answers everybody at once.
    assert [answer.json["state"] for answer in answers] == ["queued", "queued"]


def test_an_upload_can_wait_for_its_result(upload, engine, workers):
    answers = []
    thread = in_another_thread(lambda: answers.append(upload(headers={"Prefer": "wait=20"})))

    def accepted():
        with engine.connect() as connection:
            return connection.execute(text("SELECT id FROM analysis")).scalars().all()

    until(accepted)
    workers.finish(accepted()[0])
    thread.join(10)
    (answer,) = answers
    assert (answer.status_code, answer.json["state"]) == (200, "done")
    assert answer.headers["Preference-Applied"] == "wait=20"


def test_an_upload_that_waits_in_vain_is_accepted(upload):
    answer = upload(headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json["state"]) == (202, "queued")


# --- exports ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("export", ["attention.png", "report.pdf", "fhir"])
def test_an_unfinished_analysis_cannot_be_exported(client, address, export):
    assert_problem(client.get(f"{address}/{export}"), 409, "analysis-not-finished")


@pytest.mark.parametrize("export", ["attention.png", "report.pdf", "fhir"])
def test_a_rejected_analysis_has_nothing_to_export(client, workers, address, analysis_id, export):
    workers.reject(analysis_id)
    assert_problem(client.get(f"{address}/{export}"), 409, "analysis-without-result")


@pytest.mark.parametrize(
    ("export", "kind", "beginning"),
    [
        ("attention.png", "image/png", b"\x89PNG"),
        ("report.pdf", "application/pdf", b"%PDF"),
        ("fhir", "application/fhir+json", b"{"),
        ("image", "image/jpeg", b"\xff\xd8"),
    ],
)
def test_a_finished_analysis_is_exported(client, workers, address, analysis_id, export, kind, beginning):
    workers.finish(analysis_id)
    answer = client.get(f"{address}/{export}")
    assert (answer.status_code, answer.content_type) == (200, kind)
    assert answer.data.startswith(beginning)
    assert "no-store" in answer.headers["Cache-Control"]


def test_the_report_does_without_a_deleted_photograph(client, parts, workers, address, analysis_id):
    workers.finish(analysis_id)
    parts.blobs.delete(analysis_id)
    parts.record.images_deleted(analysis_id)
    assert client.get(f"{address}/report.pdf").status_code == 200
    assert_problem(client.get(f"{address}/image"), 410, "image-gone")
    assert client.get(address).json["image_stored"] is False


# --- feedback --------------------------------------------------------------------------------------------------

CONFIRMED = {"diagnosis": "mel", "source": "biopsy", "consent": True}


def test_feedback_is_stored_and_revoked(client, engine, workers, address, analysis_id):
    workers.finish(analysis_id)
    given = client.post(f"{address}/feedback", json=CONFIRMED)
    assert given.status_code == 201
    assert given.headers["Location"] == given.json["links"]["self"]
    assert client.delete(given.json["links"]["self"]).status_code == 204
    with engine.connect() as connection:
        (row,) = connection.execute(text("SELECT diagnosis, source, consent, revoked_at FROM feedback")).all()
    assert (row.diagnosis, row.source, row.consent) == ("mel", "biopsy", False)
    assert row.revoked_at is not None
    assert_problem(client.delete(f"{address}/feedback/{uuid.uuid4()}"), 404, "feedback-not-found")


@pytest.mark.parametrize(
    "wrong",
    [
        {"diagnosis": "acne"},
        {"source": "a friend"},
        {"consent": "yes"},
        {"consent": None},
        {"name": "Jane"},
    ],
    ids=["diagnosis", "source", "consent in words", "no consent", "unknown field"],
)
def test_feedback_that_makes_no_sense_is_refused(client, workers, address, analysis_id, wrong):
    workers.finish(analysis_id)
    answer = client.post(f"{address}/feedback", json={**CONFIRMED, **wrong})
    assert_problem(answer, 422, "invalid-fields")
    assert list(answer.json["errors"]) == list(wrong)


@pytest.mark.parametrize("body", [b"mel", b"[]", b"[" * 4_000], ids=["words", "list", "nested without end"])
def test_feedback_that_is_no_object_is_refused(client, workers, address, analysis_id, body):
    workers.finish(analysis_id)
    assert_problem(client.post(f"{address}/feedback", data=body), 400, "malformed-request")


def test_feedback_has_a_size(client, workers, address, analysis_id):
    workers.finish(analysis_id)
    answer = client.post(f"{address}/feedback", json={**CONFIRMED, "diagnosis": "m" * 5_000})
    assert_problem(answer, 413, "upload-too-large")


# --- deletion --------------------------------------------------------------------------------------------------


def test_a_deleted_analysis_is_gone_with_everything(client, engine, workers, address, analysis_id, blobs_stored):
    workers.finish(analysis_id)
    client.post(f"{address}/feedback", json=CONFIRMED)
    assert client.delete(address).status_code == 204
    assert blobs_stored() == []
    with engine.connect() as connection:
        for table in ("prediction", "feedback"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0
    for path in (address, f"{address}/image", f"{address}/fhir", f"{address}/report.pdf"):
        assert_problem(client.get(path), 410, "analysis-gone")
    assert client.delete(address).status_code == 204


def test_deleting_cancels_what_is_under_way(client, workers, address, analysis_id):
    lease = workers.begin(analysis_id, PREPARE)
    assert lease.token is not None
    assert client.delete(address).status_code == 204
    assert_problem(client.get(address), 410, "analysis-gone")


def test_somebody_who_waits_hears_of_the_deletion(app, client, engine, address):
    answers = []
    thread = in_another_thread(lambda: answers.append(app.test_client().get(address, headers={"Prefer": "wait=20"})))
    until(lambda: listening(engine))
    client.delete(address)
    thread.join(10)
    assert [answer.status_code for answer in answers] == [410]


EXPLAINED = replace(
    RESULT,
    explanation=Explanation(
        intercept=-0.9,
        low_below=0.1,
        high_from=0.5,
        networks=tuple(
            NetworkExplanation(opinion.name, 0.25, 0.25 * opinion.logit, RESULT.attention)
            for opinion in RESULT.networks
        ),
    ),
)


def test_an_explanation_is_told_to_whoever_asked_for_it(client, workers, upload):
    asked = upload(fields={"explain": "true"}).json
    assert asked["explain"] is True
    workers.finish(uuid.UUID(asked["id"]), EXPLAINED)
    body = client.get(f"/v1/analyses/{asked['id']}").json
    explanation = body["result"]["explanation"]
    assert [network["contribution"] for network in explanation["networks"]] == [
        0.25 * opinion.logit for opinion in RESULT.networks
    ]
    assert AnalysisSchema().validate(body) == {}
    plain = upload(photograph(seed=2)).json
    workers.finish(uuid.UUID(plain["id"]))
    assert "explanation" not in client.get(f"/v1/analyses/{plain['id']}").json["result"]
    client.delete(f"/v1/analyses/{asked['id']}")
    with workers._record._engine.connect() as connection:
        assert connection.execute(text("SELECT count(explanation) FROM analysis")).scalar_one() == 0


def test_an_answer_that_counts_the_age_says_what_the_photograph_alone_gives(client, workers, upload):
    asked = upload(fields={"age": "61"}).json
    workers.finish(uuid.UUID(asked["id"]), replace(EXPLAINED, without_age=0.125))
    body = client.get(f"/v1/analyses/{asked['id']}").json
    assert (body["age"], body["result"]["probability_without_age"]) == (61, 0.125)
    assert AnalysisSchema().validate(body) == {}
    plain = upload(photograph(seed=2)).json
    workers.finish(uuid.UUID(plain["id"]))
    assert client.get(f"/v1/analyses/{plain['id']}").json["result"]["probability_without_age"] is None


def test_an_overruled_refusal_is_told_beside_the_answer(client, workers, upload, address, analysis_id):
    workers.finish(analysis_id, replace(RESULT, doubts=(NOT_A_LESION,)))
    concerns = client.get(address).json["result"]["concerns"]
    assert [concern["code"] for concern in concerns] == ["glare", "not_a_lesion"]


@pytest.mark.parametrize("reached", ["queued", "preparing", "prepared", "stacking"])
def test_an_unfinished_analysis_can_be_cancelled(client, workers, address, analysis_id, blobs_stored, reached):
    lease = None
    if reached == "preparing":
        lease = workers.begin(analysis_id, PREPARE)
    elif reached != "queued":
        workers.prepare(analysis_id)
        lease = workers.begin(analysis_id, STACK) if reached == "stacking" else None
    assert client.get(address).json["links"]["cancel"] == f"{address}/cancel"

    for _ in range(2):
        cancelled = client.post(f"{address}/cancel")
        assert (cancelled.status_code, cancelled.json["state"]) == (200, "failed")
        assert cancelled.json["reason"]["code"] == "cancelled"
        assert cancelled.json["image_stored"] is False
        assert AnalysisSchema().validate(cancelled.json) == {}
    assert blobs_stored() == []
    assert "cancel" not in client.get(address).json["links"]
    if lease is not None:
        with pytest.raises(LeaseLostError):
            workers._record.reject(lease, BLURRED)


def test_what_has_ended_cannot_be_cancelled(client, workers, address, analysis_id):
    workers.finish(analysis_id)
    assert_problem(client.post(f"{address}/cancel"), 409, "analysis-finished")
    assert client.get(address).json["state"] == "done"
    client.delete(address)
    assert_problem(client.post(f"{address}/cancel"), 410, "analysis-gone")
    assert_problem(client.post(f"/v1/analyses/{uuid.uuid4()}/cancel"), 404, "analysis-not-found")
