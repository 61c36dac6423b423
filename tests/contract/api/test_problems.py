"""Every error is a problem (RFC 9457), whoever raised it."""

from __future__ import annotations

import gc
import io
import uuid

import pytest
from flask import Flask
from werkzeug.exceptions import HTTPException

from services.gateway.app import create_app
from services.gateway.problems import PROBLEM_JSON, problem_types
from services.gateway.security import HEADERS

SOME_ID = str(uuid.UUID(int=4, version=4))


def assert_problem(response, status):
    assert response.status_code == status
    assert response.content_type == PROBLEM_JSON
    body = response.json
    assert {"type", "title", "status", "detail", "advice", "trace_id"} <= set(body)
    assert body["status"] == status
    assert body["type"].removeprefix("/problems/") in problem_types()
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/nowhere", 404),
        ("GET", "/v1/analyses/nonsense", 404),
        ("GET", "/problems/nonsense", 404),
        ("PUT", "/v1/analyses", 405),
        ("POST", "/healthz", 405),
        ("POST", "/v1/analyses", 400),
        ("GET", f"/v1/analyses/{SOME_ID}", 503),
        ("DELETE", f"/v1/analyses/{SOME_ID}", 503),
        ("GET", f"/v1/analyses/{SOME_ID}/fhir", 503),
        ("GET", f"/v1/batches/{SOME_ID}", 503),
        ("GET", "/v1/models", 503),
    ],
)
def test_errors_are_problems(client, method, path, status):
    response = client.open(path, method=method)
    assert_problem(response, status)
    if status == 405:
        assert response.headers["Allow"]
    if status == 503:
        assert int(response.headers["Retry-After"]) > 0


def test_a_body_beyond_the_limit_is_a_problem_and_is_read_to_its_end(client):
    body = io.BytesIO(b"x" * 20_000_000)
    response = client.post(
        "/v1/analyses",
        input_stream=body,
        content_length=20_000_000,
        content_type="multipart/form-data; boundary=b",
    )
    assert_problem(response, 413)
    # A client that writes its whole body before it listens must not meet a closed connection.
    assert body.tell() == 20_000_000


class Trickle(io.RawIOBase):
    """A client that sends one byte at a time, for as long as it is listened to."""

    def __init__(self, clock):
        self.clock, self.position = clock, 0
        self.head = io.BytesIO(b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n')

    def tell(self):
        return self.position

    def seek(self, offset, whence=0):
        self.position = 10_000_000 if whence else offset

    def read(self, size=-1):
        self.clock.now += 1
        return self.head.read(1) or b"x"


# The form parser leaves what it had begun to the garbage collector: an anonymous file that nobody can open.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_upload_that_trickles_is_given_up(client, monkeypatch):
    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr("services.gateway.api.requests.time", clock)
    response = client.post(
        "/v1/analyses",
        input_stream=Trickle(clock),
        content_type="multipart/form-data; boundary=b",
    )
    gc.collect()
    assert_problem(response, 408)
    assert 100 < clock.now < 200


def test_what_nobody_expected_is_a_problem_without_its_cause(app, client, monkeypatch):
    def crash(*_):
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(app.extensions["lesionlens"].models, "_stack", crash)
    response = client.get("/v1/models")
    assert_problem(response, 500)
    assert "hunter2" not in response.text


@pytest.mark.parametrize("sent", ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])
def test_the_callers_trace_is_kept(client, sent):
    response = client.get("/nowhere", headers={"traceparent": sent})
    assert response.json["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert response.headers["X-Trace-Id"] == response.json["trace_id"]


@pytest.mark.parametrize("sent", ["", "nonsense", "00-" + "0" * 32 + "-x-01", "00-<script>-x-01"])
def test_a_useless_trace_is_replaced(client, sent):
    trace_id = client.get("/nowhere", headers={"traceparent": sent}).json["trace_id"]
    assert len(trace_id) == 32
    assert set(trace_id) <= set("0123456789abcdef")
    assert set(trace_id) != {"0"}


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json", "/docs", "/nowhere", "/v1/analyses/nonsense"])
def test_every_response_carries_the_security_headers(client, path):
    headers = client.get(path).headers
    for name in HEADERS:
        assert headers[name]
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["Referrer-Policy"] == "no-referrer"


def test_problem_slugs_mean_one_status_each():
    kinds = problem_types()
    assert all(slug == kind.slug for slug, kind in kinds.items())
    assert {"too-many-requests", "service-unavailable", "analysis-gone", "upload-too-large"} <= set(kinds)


@pytest.mark.parametrize("status", [400, 401, 403, 406, 408, 411, 414, 415, 416, 431])
def test_whatever_the_framework_raises_is_a_problem(app, status):
    bare = Flask("bare")
    bare.extensions.update(app.extensions)
    from services.gateway.problems import register_problems

    register_problems(bare)

    @bare.get("/")
    def fail():
        error = HTTPException("as it is")
        error.code = status
        raise error

    response = bare.test_client().get("/")
    assert (response.status_code, response.content_type) == (status, PROBLEM_JSON)


def test_two_applications_do_not_share_anything(app):
    other = create_app(app.extensions["lesionlens"].settings)
    assert other.extensions["lesionlens"] is not app.extensions["lesionlens"]
    assert other.test_client().get("/healthz").status_code == 200
