"""Beyond the bound an upload is refused before it is looked at; what was accepted goes on."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import text

from services.analysis.states import PREPARE
from services.gateway import uploads
from services.gateway.app import create_app
from services.gateway.parts import make_parts
from tests.integration.gateway.conftest import photograph

LIMIT = 3


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"max_waiting": LIMIT, "max_waiting_s": 30.0})


def assert_refused(answer):
    assert (answer.status_code, answer.json["type"]) == (503, "/problems/too-much-waiting")
    assert answer.content_type == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1


def test_beyond_the_bound_an_upload_is_refused_unread(client, upload, blobs_stored, monkeypatch):
    accepted = [upload() for _ in range(LIMIT)]
    assert [answer.status_code for answer in accepted] == [202] * LIMIT
    monkeypatch.setattr(uploads, "clean", lambda *_: pytest.fail("a refusal looks at no photograph"))
    kept = blobs_stored()

    assert_refused(upload())

    assert blobs_stored() == kept
    assert [client.get(answer.headers["Location"]).json["state"] for answer in accepted] == ["queued"] * LIMIT
    refused = 'lesionlens_uploads_refused_total{reason="too_much_waiting"} 1.0'
    assert refused in client.get("/metrics").text


def test_a_batch_that_does_not_fit_is_refused_whole(client, upload, blobs_stored):
    upload()
    kept = blobs_stored()
    head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="p.jpg"\r\n\r\n'
    body = b"".join(head + photograph(seed=seed) + b"\r\n" for seed in range(LIMIT))

    answer = client.post("/v1/batches", data=body + b"--x--\r\n", content_type="multipart/form-data; boundary=x")

    assert_refused(answer)
    assert blobs_stored() == kept


def test_it_opens_again_when_work_was_done(settings, networks, upload, workers):
    ids = [uuid.UUID(upload().json["id"]) for _ in range(LIMIT)]
    assert_refused(upload())
    workers.finish(ids[0])
    workers.finish(ids[1])

    # Another process, which has not asked yet.
    parts = make_parts(settings, networks)
    parts.door.check()
    parts.drain()
    parts.engine.dispose()


def test_it_shuts_for_the_age_of_what_nobody_has_begun(app, settings, networks, upload, workers, engine):
    begun, waiting = (uuid.UUID(upload().json["id"]) for _ in range(2))
    workers.begin(begun, PREPARE)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE analysis SET updated_at = now() - interval '1 min' WHERE id = :id"), {"id": begun}
        )
    parts = make_parts(settings, networks)
    parts.door.check()
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE analysis SET updated_at = now() - interval '31 s' WHERE id = :id"), {"id": waiting}
        )
    answer = create_app(settings, make_parts(settings, networks)).test_client().post("/v1/analyses")
    assert_refused(answer)
    parts.drain()
    parts.engine.dispose()
