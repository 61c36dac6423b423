"""When a request is tried again, and what an answer of an error status becomes."""

from __future__ import annotations

import datetime as dt
from email.utils import format_datetime

import pytest

from lesionlens.client import (
    AccessError,
    BusyError,
    ClientError,
    GoneError,
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


@pytest.mark.parametrize(
    ("environment", "proxied"),
    [
        ({}, False),
        ({"http_proxy": "http://proxy.example:3128"}, True),
        ({"http_proxy": "http://proxy.example:3128", "no_proxy": "clinic.example"}, False),
    ],
)
def test_the_environment_says_which_proxy(monkeypatch, environment, proxied):
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    transport = Transport("http://lens.clinic.example", None, 1.0, 0)
    assert (transport._pool.proxy is not None) == proxied
    transport.close()
