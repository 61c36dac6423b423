"""Other sites' pages: shut out unless named, and then let into `/v1` alone, without anybody's rights."""

from __future__ import annotations

import dataclasses
import io

import pytest

from services.gateway.app import create_app
from tests.integration.gateway.conftest import photograph

FRIEND, STRANGER = "https://clinic.example", "https://evil.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,prefer"}


def allowed(answer):
    return {name.lower(): value for name, value in answer.headers if name.lower().startswith("access-control-")}


@pytest.fixture
def opened(settings, parts):
    """A gateway that one other site may use."""

    def client_of(origins):
        wider = settings.model_copy(update={"cors_origins": origins})
        return create_app(wider, dataclasses.replace(parts, settings=wider)).test_client()

    return client_of


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_by_default_no_other_site_is_let_in(client, method):
    answer = client.open("/v1/models", method=method, headers={"Origin": FRIEND, **PREFLIGHT})
    assert allowed(answer) == {}
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_named_site_may_ask_and_read_and_nobody_else(opened):
    client = opened(FRIEND)
    answer = client.options("/v1/analyses", headers={"Origin": FRIEND, **PREFLIGHT})
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    for header in ("Authorization", "Idempotency-Key", "If-None-Match", "Prefer"):
        assert header in answer.headers["Access-Control-Allow-Headers"]

    sent = client.post("/v1/analyses", data={"image": _file()}, headers={"Origin": FRIEND})
    assert sent.status_code == 202
    assert sent.headers["Access-Control-Allow-Origin"] == FRIEND
    assert "Location" in sent.headers["Access-Control-Expose-Headers"]
    assert sent.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert "Origin" in sent.headers["Vary"]

    for method in ("GET", "OPTIONS"):
        refused = client.open(sent.headers["Location"], method=method, headers={"Origin": STRANGER, **PREFLIGHT})
        assert allowed(refused) == {}
        assert "Origin" in refused.headers["Vary"]  # or a cache would hand one site the answer for another


def test_a_site_that_is_let_in_can_read_what_went_wrong(opened):
    answer = opened(FRIEND).get("/v1/analyses", headers={"Origin": FRIEND})
    assert answer.status_code == 401
    assert answer.headers["Access-Control-Allow-Origin"] == FRIEND


def test_any_site_means_any_but_never_with_somebody_s_cookies(opened):
    answer = opened("*").get("/v1/analyses", headers={"Origin": STRANGER})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "access-control-allow-credentials" not in allowed(answer)


@pytest.mark.parametrize("path", ["/", "/history", "/openapi.json", "/metrics", "/healthz"])
def test_pages_and_what_is_for_operators_stay_shut(opened, path):
    assert allowed(opened("*").get(path, headers={"Origin": FRIEND})) == {}


def _file():
    return (io.BytesIO(photograph()), "photo.jpg")
