"""How many photographs somebody may send in a minute, whichever way they come."""

from __future__ import annotations

import io
import re
import zipfile

import pytest
from limits.strategies import FixedWindowRateLimiter
from redis import ConnectionError as RedisConnectionError
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from services.analysis.keys import KeyRing
from services.gateway.app import create_app
from tests.integration.gateway.conftest import photograph
from tests.integration.gateway.test_api_keys import Holder, assert_problem


@pytest.fixture
def anybody(settings, parts):
    """Makes somebody without a key who may send so many photographs a minute."""

    def make(per_minute, **changed):
        changed = {"uploads_per_minute": per_minute, **changed}
        return Holder(create_app(settings.model_copy(update=changed), parts).test_client())

    return make


def send_zip(party, count):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.jpg", photograph(seed=number))
    boundary, body = encode_multipart({"images": FileStorage(io.BytesIO(file.getvalue()), "all.zip")})
    return party.ask("POST", "/v1/batches", data=body, content_type=f"multipart/form-data; boundary={boundary}")


@pytest.mark.parametrize("send", [Holder.send_batch, send_zip], ids=["files", "zip"])
def test_a_batch_counts_as_its_photographs_and_is_refused_before_one_is_stored(anybody, blobs_stored, send):
    party = anybody(6)
    assert send(party, 4).status_code == 202
    refused = send(party, 4)
    assert_problem(refused, 429, "too-many-requests")
    assert refused.json["detail"] == "The batch has 4 photographs; 2 of 6 a minute are left."
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert len(blobs_stored()) == 4


def test_a_refused_batch_costs_no_more_than_one_photograph(anybody):
    party = anybody(5)
    assert party.send_batch(3).status_code == 202
    assert party.send_batch(3).status_code == 429
    assert [party.send(seed=seed).status_code for seed in range(2)] == [202, 429]


def test_a_batch_beyond_the_limit_takes_a_whole_minute(anybody):
    party = anybody(2)
    assert party.send_batch(3).status_code == 202
    assert party.send().status_code == 429
    assert party.send_batch(3).status_code == 429


def test_a_batch_beyond_the_limit_finds_no_place_in_a_minute_that_has_begun(anybody):
    party = anybody(4)
    assert party.send().status_code == 202
    assert party.send_batch(5).status_code == 429


def test_whoever_may_send_one_a_minute_may_send_one_batch(anybody):
    assert [anybody(1).send_batch(2).status_code for _ in range(2)] == [202, 429]


def test_a_key_has_a_rate_of_its_own_for_batches_too(client, engine):
    slow = Holder(client, KeyRing(engine).create("slow", uploads_per_minute=3)[1])
    assert [slow.send_batch(2).status_code for _ in range(2)] == [202, 429]


def test_photographs_from_pages_programs_and_batches_are_counted_together(anybody):
    party = anybody(4)
    token = re.search(r'name="form_token" value="([^"]+)"', party.client.get("/").text).group(1)

    def send_form(path="/"):
        form = {"form_token": token, "image": FileStorage(io.BytesIO(photograph()), "a.jpg")}
        boundary, body = encode_multipart(form)
        return party.client.post(path, data=body, content_type=f"multipart/form-data; boundary={boundary}")

    sent = send_form()
    assert sent.status_code == 303
    assert party.send().status_code == 202
    assert party.send_batch(2).status_code == 202
    assert send_form(f"{sent.location}/use-anyway").status_code == 429
    assert [send_form().status_code, party.send().status_code, party.send_batch(1).status_code] == [429, 429, 429]


def test_without_redis_each_process_counts_for_itself(anybody):
    party = anybody(3, redis_url="redis://127.0.0.1:1/0")
    assert [party.send_batch(2).status_code for _ in range(2)] == [202, 429]


def test_redis_may_go_away_in_the_middle_of_a_request(anybody, monkeypatch):
    def gone(*_arguments, **_options):
        raise RedisConnectionError("gone")

    monkeypatch.setattr(FixedWindowRateLimiter, "test", gone)
    assert anybody(1_000).send_batch(2).status_code == 202
