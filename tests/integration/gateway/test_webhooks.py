"""Webhooks from the registration to a real receiver: signed, tried again, remembered, and kept away from the inside."""

from __future__ import annotations

import base64
import hashlib
import io
import ipaddress
import json
import threading
import uuid
from collections import deque
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from sqlalchemy import text
from werkzeug.datastructures import Headers

from lesionlens.client import verify_webhook
from services.analysis import webhooks
from services.analysis.database import make_engine
from services.analysis.errors import DatabaseUnavailableError
from services.analysis.keys import KeyRing
from services.analysis.sealing import sealing_from
from services.analysis.settings import load_settings
from services.analysis.webhooks import KEYS_SHARE, MAX_WEBHOOKS, WebhookBook
from services.gateway.app import create_app
from services.gateway.parts import make_parts
from services.webhooks import delivery
from services.webhooks.delivery import Deliverer
from services.webhooks.signature import told_secret
from tests.integration.gateway.conftest import photograph

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


class Receiver:
    """A real HTTP server that notes what it is told, and answers as it is told to, else 204."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.answers: deque[tuple[int, dict[str, str]] | threading.Event] = deque()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
                answer = receiver.answers.popleft() if receiver.answers else (204, {})
                if isinstance(answer, threading.Event):
                    answer.wait(30)
                    return
                status, headers = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver():
    with closing(Receiver()) as receiver:
        yield receiver


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"webhook_allowed_networks": "127.0.0.0/8"})


@pytest.fixture
def book(engine):
    return WebhookBook(engine)


@pytest.fixture
def key(engine):
    """An API key, as the headers that show it."""
    key, token = KeyRing(engine).create("clinic")
    return key, {"Authorization": f"Bearer {token}"}


@pytest.fixture
def register(client, key):
    def registered(url: str, headers=None):
        return client.post("/v1/webhooks", json={"url": url}, headers=headers or key[1])

    return registered


def deliver(book, **options) -> None:
    """One round of what is due, to its end."""
    deliverer = Deliverer(book, **{"allowed": LOOPBACK, "timeout_s": 5.0, "pauses_s": (0.0, 0.0, 0.0)} | options)
    deliverer.deliver_due()
    deliverer.linger(20)


def deliveries(client, key, webhook):
    return client.get(webhook["links"]["deliveries"], headers=key[1]).json["items"]


def test_a_receiver_is_told_that_an_analysis_ended_and_can_believe_it(
    client, key, register, upload, workers, book, receiver
):
    webhook = register(receiver.url).json
    analysis = upload(headers=key[1]).json
    deliver(book)
    assert receiver.seen == []

    workers.finish(uuid.UUID(analysis["id"]))
    deliver(book)

    ((headers, body),) = receiver.seen
    message = verify_webhook(body, headers, webhook["secret"])
    assert message["type"] == "analysis.done"
    assert message["data"] == {
        "id": analysis["id"], "state": "done", "links": {"self": f"/v1/analyses/{analysis['id']}"},
    }  # fmt: skip
    # The id is all that leaves: what was found is fetched by whoever holds the key.
    assert b"probability" not in body
    (told,) = deliveries(client, key, webhook)
    assert (told["id"], told["state"], told["attempts"], told["last_status"]) == (
        headers["webhook-id"], "delivered", 1, 204,
    )  # fmt: skip
    deliver(book)
    assert len(receiver.seen) == 1


def test_every_end_is_told_and_every_file_of_a_batch(client, key, register, workers, book, receiver, upload):
    register(receiver.url)
    rejected, cancelled = upload(headers=key[1]).json, upload(photograph(seed=2), headers=key[1]).json
    workers.reject(uuid.UUID(rejected["id"]))
    client.post(f"/v1/analyses/{cancelled['id']}/cancel", headers=key[1])
    form = {"images": [(io.BytesIO(b"no photograph"), "a.jpg"), (io.BytesIO(photograph(seed=3)), "b.jpg")]}
    batch = client.post("/v1/batches", data=form, headers=key[1]).json
    upload(photograph(seed=4))  # nobody's
    for _ in range(2):
        deliver(book)
    told = {}
    for headers, body in receiver.seen:
        message = json.loads(body)
        told[message["data"]["id"]] = (message["type"], message["data"].get("batch"))
        assert headers["content-type"] == "application/json"
    assert told == {
        rejected["id"]: ("analysis.rejected", None),
        cancelled["id"]: ("analysis.failed", None),
        batch["items"][0]["id"]: ("analysis.rejected", {"id": batch["id"]}),
    }


def test_a_message_is_tried_again_with_the_same_id_and_a_new_time_until_it_is_taken(
    client, key, register, book, receiver
):
    webhook = register(receiver.url).json
    client.post(webhook["links"]["test"], headers=key[1])
    receiver.answers.extend([(500, {}), (302, {"Location": receiver.url}), (200, {})])
    clock = iter([1_000.0, 2_000.0, 3_000.0])
    for _ in range(4):
        deliver(book, now=lambda: next(clock))
    assert [headers["webhook-timestamp"] for headers, _ in receiver.seen] == ["1000", "2000", "3000"]
    assert len({headers["webhook-id"] for headers, _ in receiver.seen}) == 1
    assert len({headers["webhook-signature"] for headers, _ in receiver.seen}) == 3
    (told,) = deliveries(client, key, webhook)
    assert (told["type"], told["state"], told["attempts"]) == ("webhook.test", "delivered", 3)


def test_the_pauses_grow_and_end(client, key, register, book, receiver, engine):
    webhook = register(receiver.url).json
    client.post(webhook["links"]["test"], headers=key[1])
    receiver.answers.extend([(503, {})] * 9)
    pauses = []
    for _ in range(3):
        deliver(book, pauses_s=(100.0, 1_000.0))
        with engine.begin() as connection:
            row = connection.execute(text("SELECT due_at - now() AS pause, last_error FROM webhook_delivery")).one()
            pauses.append(row.pause.total_seconds() if row.pause else None)
            connection.execute(text("UPDATE webhook_delivery SET due_at = now() WHERE due_at IS NOT NULL"))
    assert 90 < pauses[0] <= 120
    assert 990 < pauses[1] <= 1_200
    assert pauses[2] is None
    (told,) = deliveries(client, key, webhook)
    assert (told["state"], told["last_status"]) == ("given_up", 503)
    assert told["last_error"] == "The receiver answered 503."
    assert list(delivery.PAUSES_S) == sorted(delivery.PAUSES_S)
    assert sum(delivery.PAUSES_S) > 24 * 3_600


def test_what_a_dead_process_had_taken_is_sent_by_the_next_one(
    postgres_url, key, register, client, book, receiver, engine
):
    webhook = register(receiver.url).json
    client.post(webhook["links"]["test"], headers=key[1])
    assert len(book.take_due(8)) == 1  # by a process that then died
    assert book.take_due(8) == ()
    with engine.begin() as connection:
        connection.execute(text("UPDATE webhook_delivery SET due_at = due_at - interval '61 seconds'"))
    restarted = make_engine(postgres_url)
    deliver(WebhookBook(restarted))
    restarted.dispose()
    assert len(receiver.seen) == 1
    (told,) = deliveries(client, key, webhook)
    assert (told["state"], told["attempts"]) == ("delivered", 2)


def test_a_redirect_is_not_followed(client, key, register, book, receiver):
    webhook = register(receiver.url).json
    with closing(Receiver()) as inside:
        receiver.answers.append((307, {"Location": inside.url}))
        client.post(webhook["links"]["test"], headers=key[1])
        deliver(book, pauses_s=())
        assert inside.seen == []
    (told,) = deliveries(client, key, webhook)
    assert (told["state"], told["last_status"]) == ("given_up", 307)


def test_a_name_that_leads_inside_by_the_time_of_the_delivery_gets_nothing(client, key, book, receiver, engine):
    """DNS rebinding: public when it was registered, loopback when the message is sent."""
    book.add(key[0].id, f"https://rebinding.example:{receiver.port}/hook")
    (webhook,) = client.get("/v1/webhooks", headers=key[1]).json["items"]
    client.post(webhook["links"]["test"], headers=key[1])
    asked = []

    def rebinding(host, port):
        asked.append(host)
        return ["127.0.0.1"]

    deliver(book, allowed=(), pauses_s=(), resolver=rebinding)
    assert receiver.seen == []
    assert asked == ["rebinding.example"]
    (told,) = deliveries(client, key, webhook)
    assert told["last_error"] == "The address does not lead to the public internet."


def test_the_name_is_looked_up_once_and_the_checked_address_is_connected_to(client, key, book, receiver):
    book.add(key[0].id, f"http://receiver.example:{receiver.port}/hook?clinic=1")
    (webhook,) = client.get("/v1/webhooks", headers=key[1]).json["items"]
    client.post(webhook["links"]["test"], headers=key[1])
    answers = iter([["127.0.0.1"]])
    deliver(book, resolver=lambda host, port: next(answers))
    assert [headers["host"] for headers, _ in receiver.seen] == [f"receiver.example:{receiver.port}"]


def test_a_receiver_without_a_valid_certificate_gets_nothing(client, key, register, book, receiver):
    webhook = register(receiver.url.replace("http:", "https:")).json
    client.post(webhook["links"]["test"], headers=key[1])
    deliver(book, pauses_s=())
    assert receiver.seen == []
    (told,) = deliveries(client, key, webhook)
    assert told["last_error"].startswith("There was no answer (SSL")


def test_a_receiver_that_never_answers_is_hung_up_on_and_holds_up_nobody(client, key, register, book, receiver):
    forever = threading.Event()
    receiver.answers.append(forever)
    webhook = register(receiver.url).json
    for _ in range(2):
        client.post(webhook["links"]["test"], headers=key[1])
    deliver(book, timeout_s=0.5, pauses_s=(3_600.0,))
    forever.set()
    assert sorted(told["state"] for told in deliveries(client, key, webhook)) == ["delivered", "waiting"]


def test_a_key_whose_receivers_are_silent_holds_up_no_other_key(engine, key, book, receiver):
    silence = threading.Event()
    other, _ = KeyRing(engine).create("another clinic")
    with closing(Receiver()) as silent:
        silent.answers.extend([silence] * 100)
        for webhook in [book.add(key[0].id, silent.url)[0] for _ in range(MAX_WEBHOOKS)]:
            for _ in range(3):
                book.test(key[0].id, webhook.id)
        book.test(other.id, book.add(other.id, receiver.url)[0].id)
        deliverer = Deliverer(book, LOOPBACK, timeout_s=20.0, pauses_s=(3_600.0,))

        begun = [deliverer.deliver_due(), deliverer.deliver_due()]

        silence.set()
        deliverer.linger(20)
        assert len(receiver.seen) == 1
        assert begun == [KEYS_SHARE + 1, 0], "what is under way counts"
        assert len(silent.seen) == KEYS_SHARE
        assert deliverer.deliver_due() == KEYS_SHARE, "and what has ended does not"
        deliverer.linger(20)


def test_of_several_keys_each_has_a_message_sent_before_one_has_two(engine, book, receiver):
    keys = [KeyRing(engine).create("clinic")[0] for _ in range(3)]
    for one in keys:
        webhook, _ = book.add(one.id, receiver.url)
        for _ in range(3):
            book.test(one.id, webhook.id)

    taken = book.take_due(4)

    assert {message.api_key_id for message in taken} == {one.id for one in keys}
    assert len(taken) == 4


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/", "https://169.254.169.254/latest/meta-data", "https://[fe80::1]/", "https://192.168.0.1/",
        "http://93.184.215.14/", "ftp://93.184.215.14/", "nonsense", "https://user:pass@93.184.215.14/",
    ],
)  # fmt: skip
def test_an_address_that_must_not_be_asked_cannot_be_registered(register, url):
    answer = register(url)
    assert (answer.status_code, answer.json["type"]) == (422, "/problems/webhook-address")


def test_by_default_even_the_loopback_is_inside(settings, postgres_url, redis_url, key, receiver):
    strict = settings.model_copy(update={"webhook_allowed_networks": ""})
    parts = make_parts(strict)
    answer = create_app(strict, parts).test_client().post("/v1/webhooks", json={"url": receiver.url}, headers=key[1])
    parts.drain()
    parts.engine.dispose()
    assert answer.status_code == 422


@pytest.mark.parametrize("body", [{}, {"url": 7}, {"url": "https://93.184.215.14/", "secret": "mine"}, {"url": ""}])
def test_a_body_that_says_something_else_is_refused(client, key, body):
    assert client.post("/v1/webhooks", json=body, headers=key[1]).status_code == 422


def test_webhooks_are_their_keys_alone(client, engine, key, register, receiver):
    assert client.post("/v1/webhooks", json={"url": receiver.url}).status_code == 401
    webhook = register(receiver.url).json
    _, token = KeyRing(engine).create("another clinic")
    other = Headers({"Authorization": f"Bearer {token}"})
    assert client.get("/v1/webhooks", headers=other).json["items"] == []
    for method, path in (("GET", webhook["links"]["deliveries"]), ("POST", webhook["links"]["test"]),
                         ("DELETE", webhook["links"]["self"])):  # fmt: skip
        assert client.open(path, method=method, headers=other).status_code == 404
    (listed,) = client.get("/v1/webhooks", headers=key[1]).json["items"]
    assert "secret" not in listed
    assert client.delete(webhook["links"]["self"], headers=key[1]).status_code == 204
    assert client.get("/v1/webhooks", headers=key[1]).json["items"] == []


def test_a_key_can_have_only_so_many(register, receiver):
    assert {register(receiver.url).status_code for _ in range(MAX_WEBHOOKS)} == {201}
    assert register(receiver.url).json["type"] == "/problems/too-many-webhooks"


def test_a_revoked_key_is_told_nothing_more(client, engine, key, register, book, receiver):
    webhook = register(receiver.url).json
    client.post(webhook["links"]["test"], headers=key[1])
    KeyRing(engine).revoke(key[0].id)
    deliver(book)
    assert receiver.seen == []


def test_of_a_revoked_key_no_webhook_and_no_delivery_stays(engine, key, book, receiver):
    other, _ = KeyRing(engine).create("another clinic")
    for one in (key[0], other):
        webhook, _ = book.add(one.id, receiver.url)
        for _ in range(3):
            book.test(one.id, webhook.id)
    deliver(book)
    KeyRing(engine).revoke(key[0].id)

    assert book.forget_old() == 3
    assert book.forget_old() == 0

    assert book.all(key[0].id) == ()
    (left,) = book.all(other.id)
    assert len(book.deliveries(other.id, left.id)) == 3


def test_of_a_deleted_analysis_nothing_is_told_and_no_delivery_stays(
    client, key, register, upload, workers, book, receiver
):
    webhook = register(receiver.url).json
    told, untold, kept = (upload(photograph(seed=seed), headers=key[1]).json for seed in range(3))
    workers.finish(uuid.UUID(told["id"]))
    deliver(book)
    workers.finish(uuid.UUID(untold["id"]))
    workers.finish(uuid.UUID(kept["id"]))

    for analysis in (told, untold):
        assert client.delete(f"/v1/analyses/{analysis['id']}", headers=key[1]).status_code == 204
    deliver(book)

    assert [json.loads(body)["data"]["id"] for _, body in receiver.seen] == [told["id"], kept["id"]]
    assert [delivery["analysis_id"] for delivery in deliveries(client, key, webhook)] == [kept["id"]]


def test_a_tidy_up_that_fails_holds_up_no_delivery(engine, key, receiver):
    stopped = threading.Event()
    tried = []

    class Book(WebhookBook):
        def forget_old(self):
            tried.append("to forget")
            if len(tried) > 1:
                stopped.set()
            raise DatabaseUnavailableError("The statement took too long.")

        def delivered(self, message, status):
            super().delivered(message, status)
            stopped.set()

    book = Book(engine)
    book.test(key[0].id, book.add(key[0].id, receiver.url)[0].id)

    Deliverer(book, LOOPBACK).run(stopped)

    assert len(receiver.seen) == 1
    assert len(tried) == 1, "the next try is an hour away"


def test_old_deliveries_are_forgotten_part_by_part(engine, key, receiver, book, monkeypatch):
    monkeypatch.setattr(webhooks, "_FORGET_AT_ONCE", 2)
    webhook, _ = book.add(key[0].id, receiver.url)
    waiting, young, *_ = (book.test(key[0].id, webhook.id).id for _ in range(7))
    with engine.begin() as connection:
        old = text("UPDATE webhook_delivery SET created_at = now() - interval '31 days' WHERE id <> :young")
        connection.execute(old, {"young": young})
        ended = text("UPDATE webhook_delivery SET due_at = NULL WHERE id <> :waiting")
        connection.execute(ended, {"waiting": waiting})

    assert [book.forget_old() for _ in range(4)] == [2, 2, 1, 0]

    assert {left.id for left in book.deliveries(key[0].id, webhook.id)} == {young, waiting}


def test_the_networks_are_checked_when_the_service_starts():
    from services.analysis.errors import SettingsError

    with pytest.raises(SettingsError, match="WEBHOOK_ALLOWED_NETWORKS"):
        load_settings({"WEBHOOK_ALLOWED_NETWORKS": "10.0.0.0/99"})


def key_text(name: str) -> str:
    return f"{name}:{base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()}"


def sealed_with(*names: str):
    return sealing_from(",".join(map(key_text, names)))


def stored_secret(engine) -> bytes:
    with engine.begin() as connection:
        return bytes(connection.execute(text("SELECT secret FROM webhook")).scalar_one())


def test_a_copy_of_the_database_signs_nothing(key, engine, receiver):
    book = WebhookBook(engine, sealed_with("2026"))
    webhook, secret = book.add(key[0].id, receiver.url)
    assert secret not in stored_secret(engine)

    book.test(key[0].id, webhook.id)
    deliver(book)

    ((headers, body),) = receiver.seen
    assert verify_webhook(body, headers, told_secret(secret))["type"] == "webhook.test"


def test_a_secret_cannot_be_put_into_another_webhook(key, engine, receiver):
    book = WebhookBook(engine, sealed_with("2026"))
    first, _ = book.add(key[0].id, receiver.url)
    second, _ = book.add(key[0].id, receiver.url)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE webhook SET secret = (SELECT secret FROM webhook WHERE id = :first) WHERE id = :second"),
            {"first": first.id, "second": second.id},
        )
    book.test(key[0].id, second.id)
    deliver(book)
    assert receiver.seen == []
    (told,) = book.deliveries(key[0].id, second.id)
    assert told.last_error == delivery.SECRET_UNREADABLE


@pytest.mark.parametrize("before", [(), ("2026",)], ids=["from before there was a key", "with an older key"])
def test_a_key_can_go_once_secrets_are_sealed_anew(key, engine, receiver, before):
    webhook, secret = WebhookBook(engine, sealed_with(*before) if before else None).add(key[0].id, receiver.url)
    keys = sealing_from(",".join([key_text("2027"), *map(key_text, before), *([] if before else ["plain"])]))
    book = WebhookBook(engine, keys)

    assert book.seal_anew() == 1
    assert book.seal_anew() == 0, "this is idempotent"

    newest = WebhookBook(engine, sealing_from(key_text("2027")))
    newest.test(key[0].id, webhook.id)
    deliver(newest)
    ((headers, body),) = receiver.seen
    assert verify_webhook(body, headers, told_secret(secret))


def test_a_lost_key_stops_a_webhook_until_it_is_back_and_no_other_one(key, engine, receiver):
    lost = WebhookBook(engine, sealing_from(key_text("lost")))
    one, _ = lost.add(key[0].id, receiver.url)
    book = WebhookBook(engine, sealing_from(key_text("2027")))
    other, _ = book.add(key[0].id, receiver.url)
    assert book.seal_anew() == 0
    for webhook in (one, other):
        book.test(key[0].id, webhook.id)

    deliver(book)

    assert len(receiver.seen) == 1
    (told,) = book.deliveries(key[0].id, one.id)
    assert (told.state, told.last_error) == ("waiting", delivery.SECRET_UNREADABLE)
    deliver(lost)
    (told,) = book.deliveries(key[0].id, one.id)
    assert told.state == "delivered"


def test_an_update_stops_no_webhook_of_whoever_encrypted_images_already(key, engine, receiver):
    webhook, secret = WebhookBook(engine).add(key[0].id, receiver.url)
    book = WebhookBook(engine, sealed_with("2026"))
    book.test(key[0].id, webhook.id)
    deliver(book)
    ((headers, body),) = receiver.seen
    assert verify_webhook(body, headers, told_secret(secret))
    assert book.seal_anew() == 1
    assert secret not in stored_secret(engine)


def test_a_mistake_of_ours_is_not_made_for_ever(client, key, register, book, receiver, monkeypatch):
    def mistaken(*_):
        raise KeyError("nobody thought of this")

    webhook = register(receiver.url).json
    client.post(webhook["links"]["test"], headers=key[1])
    with monkeypatch.context() as patched:
        patched.setattr(delivery, "post", mistaken)
        deliver(book)
    (told,) = deliveries(client, key, webhook)
    assert (told["state"], told["attempts"], told["last_error"]) == ("waiting", 1, delivery.OUR_MISTAKE)

    deliver(book, pauses_s=())
    (told,) = deliveries(client, key, webhook)
    assert told["state"] == "delivered"
