"""When a request is tried again, and what an answer of an error status becomes."""

from __future__ import annotations

import base64
import datetime as dt
import threading
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from lesionlens.cli import main
from lesionlens.client import (
    AccessError,
    BusyError,
    Client,
    ClientError,
    GoneError,
    NoAnswerError,
    NotFoundError,
    ProblemError,
    RefusedError,
)
from lesionlens.client.errors import problem_error
from lesionlens.client.transport import (
    FIRST_BACKOFF_S,
    LONGEST_BACKOFF_S,
    RETRY_AFTER_SPREAD_S,
    Transport,
    backoff_s,
    retry_after_s,
)


@pytest.mark.parametrize("tried", range(12))
def test_pauses_grow_up_to_a_bound_and_differ(tried):
    bound = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2**tried)
    pauses = [backoff_s(tried) for _ in range(200)]
    assert 0 <= min(pauses) < bound / 4
    assert 3 * bound / 4 < max(pauses) <= bound


def test_the_service_is_not_asked_before_the_time_it_names():
    pauses = {backoff_s(0, wanted_s=7) for _ in range(100)}
    assert min(pauses) >= 7
    assert max(pauses) <= 7 + RETRY_AFTER_SPREAD_S
    assert len(pauses) > 50


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, None), ("7", 7), (" 120 ", 120), ("soon", None), ("-1", None), ("", None)]
)
def test_retry_after_in_seconds(header, seconds):
    assert retry_after_s(header) == seconds


def test_retry_after_as_a_date():
    now = dt.datetime.now(dt.UTC)
    in_a_minute = format_datetime(now + dt.timedelta(seconds=60), usegmt=True)
    assert 55 <= retry_after_s(in_a_minute) <= 60
    assert retry_after_s(format_datetime(now - dt.timedelta(days=1), usegmt=True)) == 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RefusedError), (413, RefusedError), (415, RefusedError), (422, RefusedError),
        (401, AccessError), (403, AccessError), (404, NotFoundError), (410, GoneError),
        (429, BusyError), (502, BusyError), (503, BusyError), (504, BusyError),
        (409, ProblemError), (500, ProblemError), (418, ProblemError),
    ],
)  # fmt: skip
def test_every_status_has_its_error(status, kind):
    error = problem_error(status, {}, None)
    assert type(error) is kind
    assert isinstance(error, ClientError)
    assert (error.status, error.type, error.advice) == (status, "about:blank", "")
    assert str(status) in str(error)


def test_an_error_tells_what_the_service_told():
    body = {
        "type": "/problems/unreadable-image", "title": "This image cannot be used", "status": 422,
        "detail": "It ends too early.", "advice": "Send it again.", "code": "truncated", "trace_id": "0af7",
    }  # fmt: skip
    error = problem_error(422, body, 3.0)
    assert str(error) == "422 This image cannot be used: It ends too early. Send it again."
    assert (error.reason, error.trace_id, error.retry_after_s) == ("truncated", "0af7", 3.0)
    assert problem_error(413, {"type": "/problems/upload-too-large"}, None).reason == "upload_too_large"


# --- proxies ---------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch):
    """Says which proxies there are."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def say(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return say


@pytest.fixture
def proxy():
    """A proxy that answers by itself; its address without a scheme, and what it was asked: method and who asks."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.command, self.headers.get("Proxy-Authorization")))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def do_CONNECT(self):
            asked.append((self.command, self.headers.get("Proxy-Authorization")))
            self.send_error(403)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("variables", "proxied"),
    [
        ({}, False),
        ({"http_proxy": "http://proxy.example:3128"}, True),
        ({"http_proxy": "http://proxy.example:3128", "no_proxy": "clinic.example"}, False),
        ({"all_proxy": "http://proxy.example:3128"}, True),
    ],
)
def test_the_environment_says_which_proxy(environment, variables, proxied):
    environment(**variables)
    transport = Transport("http://lens.clinic.example", None, 1.0, 0)
    assert (transport._pool.proxy is not None) == proxied
    transport.close()


@pytest.mark.parametrize(
    ("user", "told"),
    [
        ("", None),
        ("jane:secret@", b"jane:secret"),
        ("clinic%5Cjane:p%40ss%3A%25@", b"clinic\\jane:p@ss:%"),
        ("jane:%C3%A4@", "jane:ä".encode()),
        ("jane@", b"jane"),
    ],
)
@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_proxy_is_told_who_asks(environment, proxy, scheme, user, told):
    address, asked = proxy
    environment(http_proxy=f"{scheme}{user}{address}", https_proxy=f"{scheme}{user}{address}")
    expected = None if told is None else f"Basic {base64.b64encode(told).decode()}"

    plain = Transport("http://lens.clinic.example", None, 5.0, 0)
    assert plain.request("GET", "/v1/models").status == 200
    plain.close()
    encrypted = Transport("https://lens.clinic.example", None, 5.0, 0)
    with pytest.raises(NoAnswerError):
        encrypted.request("GET", "/v1/models")
    encrypted.close()
    assert asked == [("GET", expected), ("CONNECT", expected)]


@pytest.mark.parametrize("address", ["socks5://jane:secret@proxy.example:1080", "http://", "jane:secret@proxy:port"])
def test_a_proxy_that_cannot_be_used_is_said_so_without_its_password(environment, address):
    environment(https_proxy=address)
    with pytest.raises(NoAnswerError, match="NO_PROXY") as refused:
        Client("https://lens.clinic.example")
    assert "secret" not in str(refused.value)


def test_the_command_says_so_too(environment, tmp_path):
    environment(https_proxy="socks5://proxy.example:1080")
    (tmp_path / "mole.jpg").touch()
    done = CliRunner().invoke(main, ["submit", str(tmp_path), "--url", "https://lens.clinic.example"])
    assert done.exit_code == 1
    assert "NO_PROXY" in done.stderr
