"""What the gateway takes in, what it refuses, and that it keeps nothing half."""

from __future__ import annotations

import errno
import io
import os
import struct
import uuid
import zlib

import pytest
import redis
from flask import Request
from PIL import Image
from sqlalchemy import text

from services.analysis.errors import BlobStoreUnavailableError, DatabaseUnavailableError, DoorbellUnavailableError
from services.analysis.record import AnalysisRecord
from services.analysis.states import PREPARE
from services.gateway.app import create_app
from services.gateway.parts import make_parts
from services.stacker.orphans import OrphanSweeper

PROBLEM = "application/problem+json"


def picture(kind="JPEG", size=(320, 240), **options):
    file = io.BytesIO()
    Image.effect_noise(size, 40).convert("RGB").save(file, kind, **options)
    return file.getvalue()


def assert_problem(response, status, slug):
    assert (response.status_code, response.content_type) == (status, PROBLEM)
    assert response.json["type"] == f"/problems/{slug}"
    assert response.json["status"] == status
    assert response.json["detail"]
    assert len(response.json["trace_id"]) == 32


def rows(engine):
    with engine.connect() as connection:
        return connection.execute(text("SELECT count(*) FROM analysis")).scalar_one()


def test_an_upload_is_accepted_recorded_and_rung_for(upload, parts, redis_url, blobs_stored):
    response = upload()
    assert response.status_code == 202
    analysis_id = response.json["id"]
    assert response.headers["Location"] == f"/v1/analyses/{analysis_id}"
    assert response.headers["Retry-After"] == "1"
    assert response.json["state"] == "queued"
    assert response.json["waiting_ahead"] == 0
    assert uuid.UUID(analysis_id).version == 4
    assert [path.name for path in blobs_stored()] == [analysis_id]
    with redis.Redis.from_url(redis_url) as client:
        (message,) = client.lrange(PREPARE.queue, 0, -1)
    assert parts.record.find(uuid.UUID(analysis_id)).state.value == "queued"
    # The message is the id and nothing else of the upload.
    assert len(message) < 2_000


def test_the_queue_position_is_told(upload, client):
    first, second = upload().json, upload().json
    assert client.get(second["links"]["self"]).json["waiting_ahead"] == 1
    assert client.get(first["links"]["self"]).json["waiting_ahead"] == 0


@pytest.mark.parametrize(
    ("data", "status", "slug", "code"),
    [
        (b"", 400, "image-empty", None),
        (b"just some words", 415, "unsupported-image", "not_an_image"),
        (b"GIF89a" + bytes(200), 415, "unsupported-image", "unsupported_format"),
        (b"%PDF-1.7", 415, "unsupported-image", "unsupported_format"),
        (picture()[:60], 422, "unreadable-image", "truncated"),
        (picture(size=(20, 20)), 422, "unreadable-image", "too_small"),
        (b"x" * 15_000_001, 413, "upload-too-large", None),
        (b"x" * 20_000_000, 413, "upload-too-large", None),
    ],
    ids=["empty", "text", "gif", "pdf", "truncated", "tiny", "one byte too many", "20 MB"],
)
def test_bad_bytes_are_refused_with_their_own_problem(upload, engine, blobs_stored, data, status, slug, code):
    response = upload(data)
    assert_problem(response, status, slug)
    assert response.json.get("code") == code
    assert rows(engine) == 0
    assert blobs_stored() == []


def test_a_bomb_is_refused_by_its_header(upload):
    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    png = picture("PNG")
    bomb = png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]
    response = upload(bomb)
    assert_problem(response, 422, "unreadable-image")
    assert response.json["code"] == "too_many_pixels"


def test_an_animated_webp_is_refused(upload):
    file = io.BytesIO()
    frames = [Image.effect_noise((80, 80), sigma).convert("RGB") for sigma in (20, 60)]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    response = upload(file.getvalue())
    assert_problem(response, 415, "unsupported-image")
    assert response.json["code"] == "animated"


@pytest.mark.parametrize(
    ("form", "slug"),
    [
        ({}, "image-missing"),
        ({"image": "words"}, "image-missing"),
        ({"photo": (io.BytesIO(b"x"), "x.jpg")}, "image-missing"),
    ],
    ids=["nothing", "text in place of a file", "another field"],
)
def test_a_form_without_a_photograph_is_refused(client, form, slug):
    response = client.post("/v1/analyses", data=form, content_type="multipart/form-data")
    assert_problem(response, 400, slug)


def test_json_in_place_of_a_form_is_refused(client):
    assert_problem(client.post("/v1/analyses", json={"image": "x"}), 400, "image-missing")


@pytest.mark.parametrize(
    "fields",
    [{"zoom": "8"}, {"force": "perhaps"}, {"tta": "3"}, {"age": "-1"}, {"age": "121"}, {"age": "4.5"}, {"age": "٣٠"}],
    ids=["unknown option", "no boolean", "no such tta", "no age", "too old", "no whole years", "no ASCII"],
)
def test_options_that_cannot_be_obeyed_are_refused(upload, fields, blobs_stored):
    assert_problem(upload(fields=fields), 400, "malformed-request")
    assert blobs_stored() == []


def test_options_are_recorded(upload):
    answer = upload(fields={"force": "true", "store": "false", "tta": "8"}).json
    assert (answer["force"], answer["store"], answer["tta"]) == (True, False, 8)


@pytest.mark.parametrize(("told", "kept"), [("61", 61), ("0", 0), ("120", 120), (" 61 ", 61), ("", None)])
def test_an_age_is_recorded_and_told(upload, client, told, kept):
    answer = upload(fields={"age": told}).json
    assert answer["age"] == kept
    assert client.get(answer["links"]["self"]).json["age"] == kept
    assert upload(picture()).json["age"] is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "HEIF", "AVIF"])
def test_every_accepted_format_is_taken_whatever_its_name(upload, kind):
    assert upload(picture(kind), name="photo.bin").status_code == 202


def test_an_idempotency_key_repeats_the_same_analysis(upload, blobs_stored):
    data = picture()
    first, again = (upload(data, headers={"Idempotency-Key": "k1"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json["id"] == again.json["id"]
    assert len(blobs_stored()) == 1


def test_a_finished_analysis_is_repeated_with_200(upload, workers):
    data = picture()
    first = upload(data, headers={"Idempotency-Key": "k2"})
    workers.finish(uuid.UUID(first.json["id"]))
    again = upload(data, headers={"Idempotency-Key": "k2"})
    assert (again.status_code, again.json["state"]) == (200, "done")


def test_an_idempotency_key_with_another_upload_is_refused(upload, blobs_stored):
    upload(picture(), headers={"Idempotency-Key": "k3"})
    assert_problem(upload(picture(size=(100, 90)), headers={"Idempotency-Key": "k3"}), 422, "idempotency-key-reused")
    assert len(blobs_stored()) == 1


@pytest.mark.parametrize("key", [" ", "k" * 256], ids=["blank", "too long"])
def test_a_useless_idempotency_key_is_refused(upload, key):
    assert_problem(upload(headers={"Idempotency-Key": key}), 400, "malformed-request")


def test_without_redis_nothing_is_taken(settings, networks, engine, blobs_stored):
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"})
    client = create_app(away, make_parts(away, networks)).test_client()
    response = client.post("/v1/analyses", data={"image": (io.BytesIO(picture()), "x.jpg")})
    assert_problem(response, 503, "service-unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert rows(engine) == 0
    assert blobs_stored() == []


def test_without_postgres_nothing_is_taken(settings, networks, blobs_stored):
    away = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:9/nowhere"})
    client = create_app(away, make_parts(away, networks)).test_client()
    response = client.post("/v1/analyses", data={"image": (io.BytesIO(picture()), "x.jpg")})
    assert_problem(response, 503, "service-unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert blobs_stored() == []


def test_an_upload_whose_commit_is_not_confirmed_keeps_its_photograph(upload, parts, blobs_stored, monkeypatch):
    """PostgreSQL commits, and dies before it says so: the analysis goes on, and a repetition gets it."""
    accept = type(parts.record).accept

    def answer_is_lost(record, submission):
        accept(record, submission)
        raise DatabaseUnavailableError("The database does not answer.")

    monkeypatch.setattr(type(parts.record), "accept", answer_is_lost)
    assert_problem(upload(headers={"Idempotency-Key": "once"}), 503, "service-unavailable")
    monkeypatch.undo()

    again = upload(headers={"Idempotency-Key": "once"})
    assert again.status_code == 202
    assert [path.name for path in blobs_stored()] == [again.json["id"]]


def test_an_upload_that_was_not_recorded_after_all_is_swept_up(upload, parts, blobs_stored, monkeypatch):
    def fail(*_):
        raise DatabaseUnavailableError("The database does not answer.")

    monkeypatch.setattr(type(parts.record), "accept", fail)
    assert_problem(upload(), 503, "service-unavailable")
    assert len(blobs_stored()) == 1, "nobody knows yet whether it is wanted"

    assert OrphanSweeper(AnalysisRecord(parts.engine), parts.blobs, margin_s=0).sweep() == 1
    assert blobs_stored() == []


def test_without_the_image_store_nothing_is_taken(upload, parts, engine, monkeypatch):
    def fail(*_):
        raise BlobStoreUnavailableError("The image store does not answer.")

    monkeypatch.setattr(parts.blobs, "put_upload", fail)
    assert_problem(upload(), 503, "service-unavailable")
    assert rows(engine) == 0


def test_an_upload_that_finds_no_room_among_the_temporary_files_may_come_again(upload, blobs_stored, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Request, "_get_file_stream", full)
    response = upload()

    assert_problem(response, 503, "service-unavailable")
    assert response.headers["Retry-After"]
    assert not blobs_stored()


def test_a_doorbell_that_dies_after_the_commit_loses_nothing(upload, parts, monkeypatch):
    def fail(*_):
        raise DoorbellUnavailableError("The queue does not answer.")

    monkeypatch.setattr(parts.doorbell, "ring", fail)
    response = upload()
    assert response.status_code == 202
    assert parts.record.find(uuid.UUID(response.json["id"])).state.value == "queued"


def test_what_is_stored_and_returned_holds_no_metadata(upload, client, blobs_stored):
    exif = Image.Exif()
    exif[0x010E] = "SECRET description"
    exif[0x0112] = 6
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2] = "N", (52.0, 31.0, 12.0)
    data = picture(exif=exif, comment=b"SECRET comment", xmp=b"<x:xmpmeta>SECRET</x:xmpmeta>") + b"SECRET tail"
    answer = upload(data).json
    (stored,) = blobs_stored()
    returned = client.get(answer["links"]["image"])
    assert returned.content_type == "image/jpeg"
    assert returned.headers["Cache-Control"] == "private, no-store"
    assert returned.data == stored.read_bytes()
    for forbidden in (b"SECRET", b"GPS", b"xmp", b"Jane", b"4711"):
        assert forbidden not in returned.data
    with Image.open(io.BytesIO(returned.data)) as image:
        assert dict(image.getexif()) == {0x0112: 6}


def test_uploads_beyond_the_limit_are_refused_with_a_time_to_wait(settings, networks):
    strict = settings.model_copy(update={"uploads_per_minute": 1})
    client = create_app(strict, make_parts(strict, networks)).test_client()
    first, second = (client.post("/v1/analyses", data={}) for _ in range(2))
    assert first.status_code == 400
    assert_problem(second, 429, "too-many-requests")
    assert 0 < int(second.headers["Retry-After"]) <= 60
