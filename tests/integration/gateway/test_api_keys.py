"""API keys: who may ask, whose an analysis is, and how many a day."""

from __future__ import annotations

import base64
import io
import itertools
import logging
import re
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog
from click.testing import CliRunner
from sqlalchemy import text
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from lesionlens import Client
from lesionlens.cli import main
from lesionlens.client import AccessError, BusyError, NotFoundError
from services.analysis.errors import DailyQuotaError
from services.analysis.keys import ApiKey, KeyRing, Scope
from services.analysis.record import Submission
from services.gateway import rate_limits
from services.gateway.app import create_app
from tests.integration.gateway.conftest import photograph
from tests.integration.gateway.service import served

PROBLEM = "application/problem+json"


def assert_problem(response, status, slug):
    assert (response.status_code, response.content_type) == (status, PROBLEM)
    assert response.json["type"] == f"/problems/{slug}"


class Holder:
    """Somebody with a key, or (without) anybody."""

    def __init__(self, client, token: str | None = None, key: ApiKey | None = None) -> None:
        self.client, self.token, self.key = client, token, key
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(self, method, path, **options):
        return self.client.open(path, method=method, headers={**self.headers, **options.pop("headers", {})}, **options)

    def send(self, seed=1, **headers):
        image = FileStorage(io.BytesIO(photograph(seed=seed)), "a.jpg")
        boundary, body = encode_multipart({"image": image})
        kind = f"multipart/form-data; boundary={boundary}"
        return self.ask("POST", "/v1/analyses", data=body, content_type=kind, headers=headers)

    def send_batch(self, count=2):
        images = [FileStorage(io.BytesIO(photograph(seed=seed)), "a.jpg") for seed in range(count)]
        boundary, body = encode_multipart({"images": images})
        return self.ask("POST", "/v1/batches", data=body, content_type=f"multipart/form-data; boundary={boundary}")


@pytest.fixture
def ring(engine):
    return KeyRing(engine)


@pytest.fixture
def holder(client, ring):
    """Makes a key and somebody who holds it."""
    numbers = itertools.count(1)

    def make(**options):
        key, token = ring.create(f"clinic {next(numbers)}", **options)
        return Holder(client, token, key)

    return make


@pytest.fixture
def anybody(client):
    return Holder(client)


# --- keys ------------------------------------------------------------------------------------------------------


def test_a_token_has_256_random_bits_and_only_their_digest_is_stored(ring, engine):
    key, token = ring.create("clinic")
    assert re.fullmatch(r"ll_[A-Za-z0-9_-]{64}", token)
    secret = base64.urlsafe_b64decode(token.removeprefix("ll_"))[16:]
    assert len(secret) == 32
    with engine.connect() as connection:
        stored = connection.execute(text("SELECT a::text FROM api_key a")).scalar_one()
        assert connection.execute(text("SELECT secret_digest FROM api_key")).scalar_one() != secret
    assert secret.hex() not in stored
    assert token not in stored
    assert ring.recognise(token).id == key.id


def test_what_is_not_exactly_the_token_opens_nothing(ring):
    key, token = ring.create("clinic")
    _, other = ring.create("other clinic")
    content = base64.urlsafe_b64decode(token.removeprefix("ll_"))
    wrong = [
        "", "ll_", token[:-1], token + "A", token.removeprefix("ll_"), token.upper(), f"{token[:30]}é{token[31:]}",
        "ll_" + base64.urlsafe_b64encode(content[:16] + bytes(32)).decode(),
        "ll_" + base64.urlsafe_b64encode(content[:16] + base64.urlsafe_b64decode(other[3:])[16:]).decode(),
        "ll_" + base64.urlsafe_b64encode(uuid.uuid4().bytes + content[16:]).decode(),
    ]  # fmt: skip
    assert [token for token in wrong if ring.recognise(token)] == []
    ring.revoke(key.id)
    assert ring.recognise(token) is None
    assert ring.recognise(other) is not None


def test_secrets_are_compared_in_constant_time(ring, monkeypatch):
    import hmac

    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or real(a, b))
    _, token = ring.create("clinic")
    ring.recognise(token)
    ring.recognise("ll_" + base64.urlsafe_b64encode(bytes(48)).decode())
    assert compared == [(32, 32), (32, 32)]


def test_use_is_noted_but_not_on_every_poll(ring, engine):
    key, token = ring.create("clinic")
    ring.recognise(token)
    with engine.begin() as connection:
        first = connection.execute(text("SELECT xmin::text, last_used_at FROM api_key")).one()
    ring.recognise(token)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT xmin::text, last_used_at FROM api_key")).one() == first
    assert first.last_used_at is not None
    assert ring.keys()[0].id == key.id


# --- who may ask -----------------------------------------------------------------------------------------------


def test_a_wrong_key_is_refused_also_where_none_is_needed(client, holder, ring):
    revoked = holder()
    ring.revoke(revoked.key.id)
    for asking in (revoked, Holder(client, "ll_nonsense"), Holder(client, "x")):
        for path in ("/v1/models", "/v1/analyses", f"/v1/analyses/{uuid.uuid4()}"):
            response = asking.ask("GET", path)
            assert_problem(response, 401, "api-key-invalid")
            assert response.headers["WWW-Authenticate"].startswith("Bearer ")
        assert_problem(asking.send(), 401, "api-key-invalid")


def test_other_schemes_belong_to_whatever_stands_in_front(client, anybody):
    assert client.get(f"/v1/analyses/{uuid.uuid4()}", headers={"Authorization": "Basic YTpi"}).status_code == 404


def test_pages_and_probes_do_not_look_at_keys(client):
    for path in ("/", "/healthz", "/openapi.json"):
        assert client.get(path, headers={"Authorization": "Bearer ll_nonsense"}).status_code == 200


def test_the_list_is_for_holders_of_a_key(anybody):
    response = anybody.ask("GET", "/v1/analyses")
    assert_problem(response, 401, "api-key-missing")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="LesionLens"'


def test_a_key_is_for_its_scopes(holder):
    reader, writer = holder(scopes=[Scope.READ]), holder(scopes=[Scope.WRITE])
    assert reader.ask("GET", "/v1/analyses").status_code == 200
    assert_problem(reader.send(), 403, "scope-missing")
    assert_problem(reader.ask("DELETE", f"/v1/analyses/{uuid.uuid4()}"), 403, "scope-missing")
    sent = writer.send()
    assert sent.status_code == 202
    assert_problem(writer.ask("GET", sent.json["links"]["self"]), 403, "scope-missing")
    assert writer.ask("DELETE", sent.json["links"]["self"]).status_code == 204


# --- whose an analysis is --------------------------------------------------------------------------------------


CONFIRMED = {"diagnosis": "nv", "source": "biopsy", "consent": True}


def test_who_may_only_write_is_told_of_a_batch_what_the_answer_says(app, holder):
    with served(app) as service, Client(service.url, holder(scopes=[Scope.WRITE]).token) as writer:
        batch = writer.submit_batch([photograph(seed=1), b"no photograph"])
        assert [analysis.state.value for analysis in batch.analyses] == ["queued", "rejected"]
        assert not batch.finished
        with pytest.raises(AccessError):
            writer.get_batch(batch.id)


@pytest.fixture
def kept(holder, workers):
    """A key's finished batch of two with a feedback, so that every route has something to show."""
    owner = holder()
    sent = owner.send_batch().json
    ids = [item["id"] for item in sent["items"]]
    for analysis_id in ids:
        workers.finish(uuid.UUID(analysis_id))
    feedback = owner.ask("POST", f"/v1/analyses/{ids[0]}/feedback", json=CONFIRMED)
    assert feedback.status_code == 201
    return owner, ids[0], sent["id"], feedback.json["id"]


def test_deleted_analyses_are_gone_for_their_key_and_unknown_to_others(holder, anybody, kept):
    owner, analysis_id, *_ = kept
    assert owner.ask("DELETE", f"/v1/analyses/{analysis_id}").status_code == 204
    assert owner.ask("GET", f"/v1/analyses/{analysis_id}").status_code == 410
    for stranger in (anybody, holder()):
        assert stranger.ask("GET", f"/v1/analyses/{analysis_id}").status_code == 404
        assert stranger.ask("DELETE", f"/v1/analyses/{analysis_id}").status_code == 404


def test_anonymous_analyses_stay_open_to_whoever_knows_their_id(holder, anybody):
    address = anybody.send().json["links"]["self"]
    for asking in (anybody, holder()):
        assert asking.ask("GET", address).status_code == 200
    assert holder().ask("GET", "/v1/analyses").json["items"] == []


def test_a_long_poll_is_for_the_owner_too(holder, anybody, workers):
    owner = holder()
    sent = owner.send().json
    workers.reject(uuid.UUID(sent["id"]))
    address = sent["links"]["self"]
    assert owner.ask("GET", address, headers={"Prefer": "wait=5"}).json["state"] == "rejected"
    assert anybody.ask("GET", address, headers={"Prefer": "wait=5"}).status_code == 404


def test_nobody_meets_anothers_analysis_by_its_idempotency_key(holder, anybody):
    parties = [anybody, holder(), holder()]
    ids = [party.send(**{"Idempotency-Key": "1"}).json["id"] for party in parties]
    assert len(set(ids)) == 3
    assert [party.send(**{"Idempotency-Key": "1"}).json["id"] for party in parties] == ids
    assert_problem(parties[1].send(seed=2, **{"Idempotency-Key": "1"}), 422, "idempotency-key-reused")


# --- the list --------------------------------------------------------------------------------------------------


def test_the_list_goes_on_page_by_page_and_skips_nothing(holder):
    owner, other = holder(), holder()
    sent = [item["id"] for item in owner.send_batch(3).json["items"]]
    sent += [owner.send(seed=seed).json["id"] for seed in (5, 6)]
    other.send()
    found, path, pages = [], "/v1/analyses?limit=2", 0
    while path:
        page = owner.ask("GET", path).json
        found += [item["id"] for item in page["items"]]
        path, pages = page["links"].get("next"), pages + 1
    assert (sorted(found), pages) == (sorted(sent), 3)
    assert found[:2] == [sent[4], sent[3]]
    owner.ask("DELETE", f"/v1/analyses/{sent[4]}")
    assert len(owner.ask("GET", "/v1/analyses").json["items"]) == 4


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=201", "limit=x", "limit=", "limit=²", "cursor=", "cursor=x", "cursor=é", "page=2",
        "cursor=" + base64.urlsafe_b64encode(b"[" * 1500).decode(),
        "cursor=" + base64.urlsafe_b64encode(b'["0001-01-01T00:00:00+14:00", "' + b"0" * 32 + b'"]').decode(),
        "cursor=" + base64.urlsafe_b64encode(b"[1, 2]").decode(),
    ],
)  # fmt: skip
def test_a_page_that_cannot_be_is_refused(holder, query):
    assert_problem(holder().ask("GET", f"/v1/analyses?{query}"), 400, "malformed-request")


# --- limits ----------------------------------------------------------------------------------------------------


def test_a_daily_quota_counts_photographs(holder, blobs_stored):
    owner = holder(daily_quota=3)
    first = owner.send(**{"Idempotency-Key": "1"})
    owner.send_batch(2)
    refused = owner.send(seed=9)
    assert_problem(refused, 429, "daily-quota-used")
    assert 0 < int(refused.headers["Retry-After"]) <= 86_400
    assert_problem(owner.send_batch(1), 429, "daily-quota-used")
    assert len(blobs_stored()) == 3
    # To repeat is not to send another one.
    assert owner.send(**{"Idempotency-Key": "1"}).json["id"] == first.json["id"]
    assert holder(daily_quota=1).send().status_code == 202


def test_a_batch_beyond_the_quota_is_refused_as_a_whole(holder, blobs_stored):
    owner = holder(daily_quota=2)
    assert_problem(owner.send_batch(3), 429, "daily-quota-used")
    assert blobs_stored() == []
    assert owner.send_batch(2).status_code == 202


def test_deleting_gives_no_quota_back_and_a_new_day_does(holder, engine):
    owner = holder(daily_quota=1)
    owner.ask("DELETE", owner.send().json["links"]["self"])
    assert_problem(owner.send(seed=2), 429, "daily-quota-used")
    with engine.begin() as connection:
        connection.execute(text("UPDATE analysis SET created_at = created_at - interval '1 day'"))
    assert owner.send(seed=2).status_code == 202


def test_uploads_at_once_cannot_all_be_the_last_one(ring, parts):
    record = parts.record.on_behalf_of(ring.create("clinic", daily_quota=3)[0].id)

    def send(number):
        try:
            return record.accept(Submission(uuid.uuid4(), b"photo")) is not None
        except DailyQuotaError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(send, range(12))) == 3
    assert len(record.own(100)) == 3


def test_a_key_has_a_rate_of_its_own(holder, anybody):
    slow, other = holder(uploads_per_minute=2), holder()
    assert [slow.send(seed=seed).status_code for seed in range(3)] == [202, 202, 429]
    assert int(slow.send().headers["Retry-After"]) > 0
    assert (other.send().status_code, anybody.send().status_code) == (202, 202)


def test_addresses_and_keys_are_counted_apart(settings, parts, ring):
    app = create_app(settings.model_copy(update={"uploads_per_minute": 1}), parts)
    with app.test_client() as client:
        anybody, one = Holder(client), Holder(client, ring.create("one")[1])
        assert [party.send().status_code for party in (anybody, anybody, one, one)] == [202, 429, 202, 429]


def test_trying_keys_is_limited_and_does_not_lock_others_out(monkeypatch, settings, parts, holder):
    monkeypatch.setattr(rate_limits, "WRONG_KEYS", "3/minute")
    app = create_app(settings, parts)
    good = holder()
    looked_up = []
    monkeypatch.setattr(KeyRing, "recognise", lambda _, token: looked_up.append(token))
    with app.test_client() as client:
        tries = [Holder(client, f"ll_{number}").ask("GET", "/v1/models").status_code for number in range(5)]
        assert tries == [401, 401, 401, 429, 429]
        assert len(looked_up) == 3
        assert Holder(client).ask("GET", "/v1/analyses/" + str(uuid.uuid4())).status_code == 404
        elsewhere = {"REMOTE_ADDR": "198.51.100.7"}
        monkeypatch.undo()
        assert good.ask("GET", "/v1/models", environ_overrides=elsewhere).status_code in {200, 503}


# --- what is told ----------------------------------------------------------------------------------------------


def test_no_log_line_holds_a_key(holder, anybody, ring, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    owner = holder(uploads_per_minute=1)
    with structlog.testing.capture_logs() as lines:
        owner.send()
        owner.send()
        ring.revoke(owner.key.id)
        owner.ask("GET", "/v1/analyses")
    printed = capsys.readouterr()
    written = repr(lines) + caplog.text + printed.out + printed.err
    assert lines
    assert owner.token[3:] not in written
    assert owner.token[25:] not in written


def test_no_answer_holds_a_key_or_its_digest(holder, ring):
    owner = holder()
    answers = [owner.send(), owner.ask("GET", "/v1/analyses"), owner.send_batch()]
    ring.revoke(owner.key.id)
    answers.append(owner.ask("GET", "/v1/analyses"))
    for answer in answers:
        assert owner.token[25:] not in answer.text + str(answer.headers)
        assert str(owner.key.id) not in answer.text + str(answer.headers)


def test_the_document_states_the_scheme(client):
    document = client.get("/openapi.json").json
    scheme = document["components"]["securitySchemes"]["apiKey"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, item in document["paths"].items():
        for method in {"get", "post", "delete"} & set(item):
            operation = item[method]
            if not path.startswith("/v1/"):
                assert "security" not in operation
                continue
            assert {"apiKey": []} in operation["security"]
            for_holders_only = (method, path) == ("get", "/v1/analyses") or path.startswith("/v1/webhooks")
            assert ({} in operation["security"]) == (not for_holders_only), (method, path)
            assert {"401", "403"} <= set(operation["responses"])


# --- from Python and the command line ----------------------------------------------------------------------------


def keys(*arguments, url):
    return CliRunner().invoke(main, ["keys", *map(str, arguments)], env={"DATABASE_URL": url})


def test_keys_are_made_listed_and_revoked_by_command(postgres_url, client):
    made = keys("create", "Clinic Basel", "--daily-quota", 5, "--per-minute", 9, "--scope", "analyses:read",
                url=postgres_url)  # fmt: skip
    assert made.exit_code == 0, made.output
    token = made.stdout.strip()
    assert re.fullmatch(r"ll_\S{64}", token)
    owner = Holder(client, token)
    assert owner.ask("GET", "/v1/analyses").status_code == 200

    listed = keys("list", url=postgres_url)
    assert "Clinic Basel  analyses:read  5  9" in listed.stdout
    assert token[25:] not in listed.output
    key_id = listed.stdout.split()[0]

    assert keys("revoke", key_id, url=postgres_url).exit_code == 0
    assert owner.ask("GET", "/v1/analyses").status_code == 401
    assert keys("revoke", uuid.uuid4(), url=postgres_url).exit_code == 1


def test_the_command_says_which_database_it_wants(tmp_path):
    done = CliRunner().invoke(main, ["keys", "list"], env={"DATA_DIR": str(tmp_path), "DATABASE_URL": ""})
    assert done.exit_code == 1
    assert "DATABASE_URL" in done.stderr


def test_without_an_address_the_command_takes_the_database_of_make_run(tmp_path):
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("17")
    (tmp_path / "run").mkdir()
    done = CliRunner().invoke(main, ["keys", "list"], env={"DATA_DIR": str(tmp_path), "DATABASE_URL": ""})
    assert done.exit_code == 1
    assert "The database does not answer" in done.stderr


def test_the_command_says_when_the_schema_is_older(engine, postgres_url):
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE api_key RENAME TO key_of_old"))
    try:
        done = keys("list", url=postgres_url)
    finally:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE key_of_old RENAME TO api_key"))
    assert done.exit_code == 1
    assert "lesionlens.migrate" in done.stderr


def test_the_client_shows_its_key(app, holder):
    owner = holder(daily_quota=2)
    with served(app) as service, Client(service.url, owner.token) as mine, Client(service.url) as others:
        sent = [mine.submit(photograph(seed=seed)).id for seed in range(2)]
        assert [analysis.id for analysis in mine.analyses()] == sent[::-1]
        with pytest.raises(NotFoundError):
            others.get(sent[0])
        with pytest.raises(AccessError):
            next(others.analyses())
        with pytest.raises(BusyError) as raised:
            mine.submit(photograph(seed=3))
        assert raised.value.type == "/problems/daily-quota-used"
