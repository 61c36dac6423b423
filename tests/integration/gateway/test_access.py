"""Who may do what, asked of every route the application has: a route that is added without a case here fails."""

from __future__ import annotations

import re
import uuid

import pytest
import structlog
from sqlalchemy import text

from services.analysis.keys import KeyRing
from services.gateway import auditing
from services.gateway.app import create_app
from services.gateway.auditing import HANDED_OUT, is_audited
from services.gateway.policy import policy_of
from tests.integration.gateway.test_api_keys import CONFIRMED, Holder

#: Routes whose address holds a variable that is no id, and what it is.
HARMLESS_VARIABLES = {"/problems/<string:slug>", "/assets/<version>/<name>"}
#: What is no form of the pages: programs post here, with a key or nothing, and no browser adds either by itself.
PROGRAMS = "/v1/"
IDS = {"analysis_id", "batch_id", "feedback_id", "webhook_id"}


def routes(app):
    """(method, rule, endpoint) of everything that can be asked for."""
    return sorted(
        (method, rule.rule, rule.endpoint)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    )


def filled(rule, ids):
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(ids.get(found[1], "x")), rule)


@pytest.fixture
def kept(client, engine, workers):
    """A key's finished analysis in a batch, with feedback."""
    key, token = KeyRing(engine).create("owner")
    owner = Holder(client, token, key)
    batch = owner.send_batch(1).json
    analysis_id = batch["items"][0]["id"]
    workers.finish(uuid.UUID(analysis_id))
    feedback = owner.ask("POST", f"/v1/analyses/{analysis_id}/feedback", json=CONFIRMED).json
    webhook_id = uuid.uuid4()
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO webhook (id, api_key_id, url, secret) VALUES (:id, :key, 'https://example.org/', :secret)"
            ),
            {"id": webhook_id, "key": key.id, "secret": bytes(32)},
        )
    ids = {"analysis_id": analysis_id, "batch_id": batch["id"], "feedback_id": feedback["id"], "webhook_id": webhook_id}
    return owner, ids


def test_every_route_with_a_variable_is_known_here_and_says_what_opens_it(app):
    unknown = []
    for _, rule, endpoint in routes(app):
        variables = set(re.findall(r"<(?:\w+:)?(\w+)>", rule))
        policy = policy_of(app.view_functions[endpoint])
        if variables <= IDS and variables:
            # An id opens it, and nothing is `public` that takes one.
            if policy is None or policy.auth not in {"capability", "key"}:
                unknown.append(rule)
        elif (variables and rule not in HARMLESS_VARIABLES) or policy is None or policy.auth == "capability":
            unknown.append(rule)
    assert unknown == []


def test_no_stranger_gets_through_any_route_with_an_id(app, client, engine, kept, monkeypatch):
    """As somebody without a key, with another key, and with a revoked one."""
    monkeypatch.setattr("services.gateway.web.analysis_page.require_own_form", lambda: None)
    owner, ids = kept
    ring = KeyRing(engine)
    revoked, revoked_token = ring.create("revoked")
    ring.revoke(revoked.id)
    strangers = [(Holder(client), {401, 404}), (Holder(client, ring.create("other")[1]), {404}),
                 (Holder(client, revoked_token), {401, 404})]  # fmt: skip
    asked = 0
    for method, rule, _ in routes(app):
        if not set(re.findall(r"<(?:\w+:)?(\w+)>", rule)) & IDS:
            continue
        for stranger, statuses in strangers:
            answer = stranger.ask(method, filled(rule, ids), json=CONFIRMED if method == "POST" else None)
            assert answer.status_code in statuses, (method, rule)
            asked += 1
    assert asked >= 45
    # Nothing was deleted, revoked or shown on the way: the owner finds everything, and may do away with it.
    assert owner.ask("GET", f"/v1/analyses/{ids['analysis_id']}").json["state"] == "done"
    own = [rule for method, rule, _ in routes(app) if method == "GET" and rule.startswith(PROGRAMS) and "_id>" in rule]
    assert len(own) >= 8
    assert {rule: owner.ask("GET", filled(rule, ids)).status_code for rule in own} == dict.fromkeys(own, 200)
    feedback = f"/v1/analyses/{ids['analysis_id']}/feedback/{ids['feedback_id']}"
    assert owner.ask("DELETE", feedback).status_code == 204


def test_a_list_shows_a_key_its_own_and_nothing_else(client, engine, kept):
    owner, ids = kept
    other = Holder(client, KeyRing(engine).create("other")[1])
    assert [item["id"] for item in owner.ask("GET", "/v1/analyses").json["items"]] == [ids["analysis_id"]]
    assert other.ask("GET", "/v1/analyses").json["items"] == []
    assert Holder(client).ask("GET", "/v1/analyses").status_code == 401


def test_every_form_of_the_pages_asks_for_its_token(app, client):
    forms = [(method, rule) for method, rule, _ in routes(app) if method != "GET" and not rule.startswith(PROGRAMS)]
    assert len(forms) >= 5
    ids = {name: uuid.uuid4() for name in IDS}
    for method, rule in forms:
        for headers, data in (
            ({}, {}),
            ({"Cookie": "lesionlens_form=a"}, {"form_token": "b"}),
            ({"Cookie": "lesionlens_form=a", "Sec-Fetch-Site": "cross-site"}, {"form_token": "a"}),
        ):
            answer = client.open(filled(rule, ids), method=method, headers=headers, data=data)
            assert answer.status_code == 403, (method, rule)


def test_programs_are_known_by_a_header_that_no_foreign_page_can_send(client, kept):
    """No cookie opens anything under /v1, so a forged request has nothing to ride on."""
    owner, ids = kept
    client.set_cookie("authorization", owner.token)
    client.set_cookie("lesionlens_form", owner.token)
    assert client.get(f"/v1/analyses/{ids['analysis_id']}").status_code == 404
    answer = client.get("/v1/models", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers.keys() if name.lower().startswith("access-control-")]  # noqa: SIM118


def pages(app, client, analysis_id):
    """Every HTML page that a GET can show."""
    for method, rule, _ in routes(app):
        if method == "GET":
            answer = client.get(filled(rule, {"analysis_id": analysis_id, "slug": "internal-error"}))
            if answer.mimetype == "text/html":
                yield rule, answer


def test_no_page_holds_a_script_or_style_of_its_own_and_all_forbid_them(app, client, upload, workers):
    analysis_id = upload().json["id"]
    workers.finish(uuid.UUID(analysis_id))
    shown = list(pages(app, client, analysis_id))
    assert len(shown) >= 7
    for rule, answer in shown:
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'self'", rule
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert "script-src" not in policy
        assert not re.search(r"<script(?![^>]*\bsrc=)", answer.text), rule
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", answer.text), rule
        assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//(?!localhost)", answer.text.split("<main")[0]), rule


def test_behind_tls_browsers_are_told_to_stay_there_and_cookies_keep_to_it(settings, parts):
    app = create_app(settings.model_copy(update={"trusted_proxies": 1}), parts)
    with app.test_client() as client:
        over_tls = client.get("/?lang=de", headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.1"})
        plain = client.get("/?lang=de")
    assert over_tls.headers["Strict-Transport-Security"].startswith("max-age=63072000")
    assert "Strict-Transport-Security" not in plain.headers
    cookies = over_tls.headers.getlist("Set-Cookie")
    assert len(cookies) == 2
    for cookie in cookies:
        assert "Secure" in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=" in cookie


def test_nobody_can_claim_tls_without_a_proxy_that_is_believed(client):
    assert "Strict-Transport-Security" not in client.get("/", headers={"X-Forwarded-Proto": "https"}).headers


@pytest.mark.parametrize("path", ["//evil.example", "//evil.example/..", "/\\evil.example", "/%2f%2fevil.example/"])
@pytest.mark.parametrize("query", ["", "?next=https://evil.example", "?lang=//evil.example&url=//evil.example"])
def test_no_redirect_leads_away(client, path, query):
    for address in (path + query, "/" + query, "/favicon.ico" + query):
        answer = client.get(address, headers={"Host": "localhost"})
        where = answer.headers.get("Location", "/")
        assert "evil.example" not in where.split("?")[0].removeprefix("http://localhost/") or where.startswith(
            ("http://localhost/", "/evil")
        ), where
        assert not where.startswith(("//", "/\\", "https://evil")), where


def test_after_a_form_the_way_goes_on_within_the_service(client, upload):
    """Also for somebody who claims to have asked another host."""
    analysis_id = upload().json["id"]
    token = re.search(r'name="form_token" value="([^"]+)"', client.get("/").text)[1]
    client.set_cookie("lesionlens_form", token, domain="evil.example")
    answer = client.post(f"/analyses/{analysis_id}/delete", data={"form_token": token}, base_url="http://evil.example")
    assert (answer.status_code, answer.headers.get("Location")) == (303, "/deleted")


# --- the audit log ---------------------------------------------------------------------------------------------


def test_whatever_changes_something_leaves_a_line_without_personal_data(app, client, engine, kept, parts):
    owner, ids = kept
    events = list(parts.audit.events())[-2:]
    assert [event.action for event in events] == ["batches.upload_batch", "feedback.give"]
    assert {event.actor for event in events} == {owner.key.id}
    assert owner.ask("DELETE", f"/v1/analyses/{ids['analysis_id']}").status_code == 204
    other_key, token = KeyRing(engine).create("somebody else")
    Holder(client, token, other_key).ask("DELETE", f"/v1/analyses/{ids['analysis_id']}")
    deleted, tried = list(parts.audit.events())[-2:]
    assert (deleted.action, deleted.outcome, deleted.actor) == ("analyses.delete", "204", owner.key.id)
    assert (tried.action, tried.outcome, tried.actor) == ("analyses.delete", "404", other_key.id)
    assert deleted.subject == ids["analysis_id"][:8]
    assert "IMG_4711" not in repr(list(parts.audit.events()))


@pytest.mark.parametrize("words", ["%00", "any-words", "%F0%9F%98%80"])
def test_words_in_place_of_an_id_are_not_found_and_not_kept(client, engine, parts, words):
    somebody = Holder(client, KeyRing(engine).create("somebody")[1])
    answer = somebody.ask("POST", f"/v1/analyses/{words}/cancel")
    assert (answer.status_code, answer.json["type"]) == (404, "/problems/analysis-not-found")
    assert answer.headers["X-Trace-Id"]
    event = list(parts.audit.events())[-1]
    assert (event.action, event.outcome, event.subject) == ("analyses.cancel", "404", None)


def test_an_answer_stands_when_its_line_is_lost(client, parts, upload, monkeypatch):
    mine = upload().json["id"]
    monkeypatch.setattr(parts.audit, "note", lambda *_: 1 / 0)
    with structlog.testing.capture_logs() as lines:
        answer = client.delete(f"/v1/analyses/{mine}")
    assert answer.status_code == 204
    (lost,) = (line for line in lines if line["event"] == "audit_line_lost")
    assert (lost["action"], lost["outcome"]) == ("analyses.delete", 204)


def test_nobody_without_a_key_fills_the_audit_log(client, parts, upload, workers):
    """Failures leave no line, and what is done again and again to one analysis leaves one."""
    mine = upload().json["id"]
    workers.finish(uuid.UUID(mine))
    before = len(list(parts.audit.events()))
    for _ in range(3):
        assert client.get(f"/v1/analyses/{mine}/fhir").status_code == 200
    for _ in range(3):
        assert client.delete(f"/v1/analyses/{mine}").status_code == 204
        assert client.delete(f"/v1/analyses/{uuid.uuid4()}").status_code == 404
        assert client.post(f"/v1/analyses/{uuid.uuid4()}/cancel").status_code == 404
        wrong_key = {"Authorization": "Bearer of no key"}
        assert client.delete(f"/v1/analyses/{uuid.uuid4()}", headers=wrong_key).status_code == 401
    noted = list(parts.audit.events())[before:]
    assert [(event.action, event.outcome) for event in noted] == [("exports.fhir", "200"), ("analyses.delete", "204")]


def test_what_is_done_again_without_a_key_is_noted_again_after_an_hour(client, parts, upload, monkeypatch):
    mine = upload().json["id"]
    client.delete(f"/v1/analyses/{mine}")
    monkeypatch.setattr(auditing, "_REPEATED_WITHIN_S", 0.0)
    client.delete(f"/v1/analyses/{mine}")
    assert [event.action for event in parts.audit.events()][-2:] == ["analyses.delete"] * 2


def test_what_is_undone_and_done_again_is_noted_each_time_but_not_for_ever(client, parts, upload, workers):
    mine = upload().json["id"]
    workers.finish(uuid.UUID(mine))
    before = len(list(parts.audit.events()))
    ways = [f"/v1/analyses/{mine}/fhir", f"/v1/analyses/{mine}/image"]
    for _ in range(3):
        assert [client.get(way).status_code for way in ways] == [200, 200]
    noted = list(parts.audit.events())[before:]
    assert [event.action for event in noted] == ["exports.fhir", "exports.image"] * 3
    for _ in range(auditing._LINES_AN_HOUR):
        assert [client.get(way).status_code for way in ways] == [200, 200]
    assert len(list(parts.audit.events())[before:]) == auditing._LINES_AN_HOUR - 1  # the upload's is one of them


def test_every_route_that_changes_or_hands_out_something_is_audited(app):
    endpoints = {endpoint for _, _, endpoint in routes(app)}
    assert HANDED_OUT - {"pages.reminder"} <= endpoints
    changing = {(method, endpoint) for method, _, endpoint in routes(app) if method != "GET"}
    assert len(changing) >= 10
    assert all(is_audited(endpoint, method) for method, endpoint in changing)
    for public in ("operations.healthz", "analyses.look", "pages.start", None):
        assert not is_audited(public, "GET")


def test_pixels_stored_during_the_deletion_are_deleted_too(client, upload, parts, workers, blobs_stored, monkeypatch):
    """A worker that finishes between the deletion of the blobs and that of the row."""
    import numpy as np

    analysis_id = uuid.UUID(upload().json["id"])
    real = type(parts.record).delete

    def worker_is_quicker(record, given):
        parts.blobs.put_tensor(given, np.zeros((224, 224, 3), np.uint8))
        workers.prepare(given)
        real(record, given)

    monkeypatch.setattr(type(parts.record), "delete", worker_is_quicker)
    assert client.delete(f"/v1/analyses/{analysis_id}").status_code == 204
    assert blobs_stored() == []
