"""Many photographs in one request."""

from __future__ import annotations

import csv
import io
import uuid
import zipfile

import pytest
from PIL import Image
from sqlalchemy import text
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.test import encode_multipart

from services.analysis.errors import DatabaseUnavailableError
from services.gateway.api.schemas import AcceptedBatchSchema, BatchSchema


def picture(sigma):
    file = io.BytesIO()
    Image.effect_noise((100, 80), sigma).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def zipped(files, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return file.getvalue()


@pytest.fixture
def send(client):
    def send(*files, idempotency_key=None, **fields):
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        form = MultiDict(fields)
        for name, data in files:
            form.add("images", FileStorage(io.BytesIO(data), name))
        boundary, body = encode_multipart(form)
        kind = f"multipart/form-data; boundary={boundary}"
        return client.post("/v1/batches", data=body, content_type=kind, headers=headers)

    return send


def test_the_age_of_a_batch_is_that_of_each_photograph(send):
    accepted = send(("a.jpg", picture(20)), ("b.jpg", picture(40)), idempotency_key="k", age="61")
    assert [item["age"] for item in accepted.json["items"]] == [61, 61]
    other = send(("a.jpg", picture(20)), ("b.jpg", picture(40)), idempotency_key="k", age="62")
    assert other.status_code == 422


def test_a_batch_is_worked_through_in_order(client, send, workers):
    accepted = send(("a.jpg", picture(20)), ("b.txt", b"words"), ("c.jpg", picture(40)))
    assert accepted.status_code == 202
    assert AcceptedBatchSchema().validate(accepted.json) == {}
    assert [(item["position"], item["name"], item["state"]) for item in accepted.json["items"]] == [
        (0, "a.jpg", "queued"),
        (1, "b.txt", "rejected"),
        (2, "c.jpg", "queued"),
    ]
    assert accepted.json["items"][1]["reason"]["code"] == "not_an_image"
    address = accepted.headers["Location"]

    working = client.get(address)
    assert BatchSchema().validate(working.json) == {}
    assert (working.json["state"], working.json["finished"], working.json["total"]) == ("working", 1, 3)
    assert working.headers["Retry-After"]

    for position in (0, 2):
        workers.finish(uuid.UUID(accepted.json["items"][position]["id"]))
    finished = client.get(address)
    assert (finished.json["state"], finished.json["counts"]) == ("finished", {"done": 2, "rejected": 1})
    assert client.get(address, headers={"If-None-Match": finished.headers["ETag"]}).status_code == 304

    table = client.get(finished.json["links"]["csv"])
    assert table.content_type.startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["state"] for row in rows] == ["done", "rejected", "done"]
    assert rows[0]["probability"] == "0.34"
    assert rows[0]["mobilenet_logit"] == "-0.5"
    assert rows[0]["vasc"] == "0.02"
    assert rows[1]["reason"] == "not_an_image"
    assert rows[1]["probability"] == ""


def test_a_zip_is_unpacked_in_its_order_and_forgets_names(client, send, engine, blobs_stored):
    archive = zipped(
        [
            ("Jane Doe/", b""),
            ("Jane Doe/left arm.jpg", picture(20)),
            ("__MACOSX/._left arm.jpg", b"x"),
            (".DS_Store", b"x"),
            ("Jane Doe/note.txt", b"words"),
        ]
    )
    accepted = send(("patients.zip", archive))
    assert [item["name"] for item in accepted.json["items"]] == ["Jane Doe/left arm.jpg", "Jane Doe/note.txt"]
    assert len(blobs_stored()) == 1
    assert "Jane" not in client.get(accepted.headers["Location"]).text
    with engine.connect() as connection:
        assert "Jane" not in str(connection.execute(text("SELECT * FROM analysis")).all())


@pytest.mark.parametrize(
    ("archive", "status", "slug"),
    [
        (zipped([("a.jpg", b"x")])[:30], 422, "unusable-archive"),
        (zipped([]), 422, "unusable-archive"),
        (zipped([(f"{n}.jpg", b"x") for n in range(101)]), 422, "unusable-archive"),
        (zipped([("a.bmp", bytes(5_000_000))]), 422, "unusable-archive"),
    ],
    ids=["damaged", "empty", "too many", "bomb"],
)
def test_an_archive_beyond_the_limits_is_refused_as_a_whole(send, blobs_stored, engine, archive, status, slug):
    answer = send(("all.zip", archive))
    assert (answer.status_code, answer.json["type"]) == (status, f"/problems/{slug}")
    assert blobs_stored() == []
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM analysis")).scalar_one() == 0


def test_a_batch_that_fails_half_way_leaves_nothing(send, parts, blobs_stored, engine, monkeypatch):
    archive = bytearray(zipped([("a.jpg", picture(20)), ("b.jpg", picture(40))]))
    second = archive.rfind(b"PK\x03\x04")
    archive[second + 60 : second + 70] = bytes(10)
    assert send(("all.zip", bytes(archive))).status_code == 422
    assert blobs_stored() == []
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM batch")).scalar_one() == 0


def test_a_batch_whose_commit_is_not_confirmed_keeps_its_photographs(send, parts, blobs_stored, monkeypatch):
    accept_batch = type(parts.record).accept_batch

    def answer_is_lost(record, *batch):
        accept_batch(record, *batch)
        raise DatabaseUnavailableError("The database does not answer.")

    files = [("a.jpg", picture(20)), ("b.jpg", picture(40))]
    monkeypatch.setattr(type(parts.record), "accept_batch", answer_is_lost)
    assert send(*files, idempotency_key="once").status_code == 503
    monkeypatch.undo()

    again = send(*files, idempotency_key="once")
    assert again.status_code == 202
    assert {path.name for path in blobs_stored()} == {item["id"] for item in again.json["items"]}


def test_a_batch_that_the_record_cannot_be_asked_about_leaves_nothing(send, parts, blobs_stored, monkeypatch):
    def unknown(_count):
        raise DatabaseUnavailableError("The database does not answer.")

    monkeypatch.setattr(parts.door, "let_in", unknown)
    assert send(("a.jpg", picture(20))).status_code == 503
    assert blobs_stored() == []


def test_a_batch_without_files_is_refused(client, send):
    assert send().json["type"] == "/problems/image-missing"
    assert send(images="words").json["type"] == "/problems/image-missing"
    assert client.post("/v1/batches", json={}).json["type"] == "/problems/image-missing"


def test_an_unknown_batch_is_said_so(client):
    for path in (f"/v1/batches/{uuid.uuid4()}", "/v1/batches/nonsense", f"/v1/batches/{uuid.uuid4()}.csv"):
        answer = client.get(path)
        assert (answer.status_code, answer.json["type"]) == (404, "/problems/batch-not-found")


def test_a_deleted_photograph_leaves_the_batch(client, send):
    accepted = send(("a.jpg", picture(20)), ("b.jpg", picture(40)))
    client.delete(accepted.json["items"][0]["links"]["self"])
    items = client.get(accepted.headers["Location"]).json["items"]
    assert [item["batch"]["position"] for item in items] == [1]


# --- once more -------------------------------------------------------------------------------------------------


def test_the_same_key_with_the_same_batch_gives_the_same_analyses(send, blobs_stored):
    files = [("a.jpg", picture(20)), ("b.txt", b"words"), ("c.jpg", picture(40))]
    first = send(*files, idempotency_key="Monday's")
    stored = blobs_stored()
    again = send(*files, idempotency_key="Monday's")
    assert (again.status_code, again.json) == (202, first.json)
    assert blobs_stored() == stored
    assert send(*files, idempotency_key="Tuesday's").json["id"] != first.json["id"]
    assert send(*files).json["id"] != first.json["id"]


def test_the_same_key_with_another_batch_is_refused(send, blobs_stored):
    one, other = ("a.jpg", picture(20)), ("c.jpg", picture(40))
    send(one, other, idempotency_key="1")
    stored = blobs_stored()
    for files, fields in (((other, one), {}), ((one,), {}), ((one, other), {"force": "true"})):
        answer = send(*files, idempotency_key="1", **fields)
        assert (answer.status_code, answer.json["type"]) == (422, "/problems/idempotency-key-reused")
    assert blobs_stored() == stored


def test_a_repeated_batch_leaves_out_what_was_deleted_since(client, send):
    files = [("a.jpg", picture(20)), ("c.jpg", picture(40))]
    first = send(*files, idempotency_key="1").json
    client.delete(first["items"][0]["links"]["self"])
    again = send(*files, idempotency_key="1").json
    assert ([item["name"] for item in again["items"]], again["total"]) == (["c.jpg"], 1)
    assert AcceptedBatchSchema().validate(again) == {}
