"""Slow heads and slow bodies, on the loopback interface: a bounded number of them leaves the gateway answering."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest
import tenacity

from services.gateway import gunicorn, punctual
from services.gateway.api import requests as reading
from tests.integration.gateway.test_server import call, port, server  # noqa: F401 - fixtures

#: Twice as many as the gateway of these tests has threads.
CLIENTS = 8


def trickle(where: int, body: bool) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", where), 30)
    head = b"POST /v1/analyses HTTP/1.1\r\nHost: localhost\r\n"
    if body:
        head += b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 900000\r\n\r\n--x\r\n"
    client.sendall(head)
    return client


def is_ended(client: socket.socket) -> bool:
    """Whether the server has answered or closed."""
    client.settimeout(0.01)
    try:
        client.recv(1)
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.slow
@pytest.mark.parametrize("body", [False, True], ids=["heads", "bodies"])
def test_silent_senders_are_given_up_and_others_are_answered(server, port, body):  # noqa: F811
    clients = [trickle(port, body) for _ in range(CLIENTS)]
    began = time.monotonic()
    try:
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(100), wait=tenacity.wait_fixed(0.1),
            retry=tenacity.retry_if_exception_type() | tenacity.retry_if_result(lambda ended: not ended), reraise=True,
        )  # fmt: skip
        # At the latest when their silence is over there is a thread for somebody else …
        assert retrying(lambda: call(port, "GET", "/healthz")[0] == 200)
        # … and nobody who is silent is still there.
        assert retrying(lambda: all(is_ended(client) for client in clients))
    finally:
        for client in clients:
            client.close()
    assert server.poll() is None
    assert time.monotonic() - began < 120


@pytest.mark.slow
@pytest.mark.parametrize("body", [False, True], ids=["heads", "bodies"])
def test_senders_that_are_never_silent_run_out_of_time_and_others_are_answered(server, port, body):  # noqa: F811
    """A byte now and then: no limit of silence ends them, and the server reads until it has what it asked for."""
    clients = [trickle(port, body) for _ in range(CLIENTS)]
    answered = False
    end = time.monotonic() + 90
    try:
        while not (answered and all(is_ended(client) for client in clients)):
            assert time.monotonic() < end, "they hold their threads for ever"
            for client in clients:
                with contextlib.suppress(OSError):
                    client.sendall(b"x")
            with contextlib.suppress(OSError):
                answered = answered or call(port, "GET", "/healthz", timeout=0.5)[0] == 200
    finally:
        for client in clients:
            client.close()
    assert server.poll() is None


def test_the_clock_ends_what_is_late_and_nothing_else():
    now = [0.0]
    clock = punctual.Clock(now=lambda: now[0])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        clock.begin(ours)
        now[0] = punctual.HEAD_S - 1
        clock.head_is_there(ours)
        now[0] += punctual.BODY_S - 1
        clock.look()
        theirs.sendall(b"in time")
        assert ours.recv(16) == b"in time"
        now[0] += 2
        clock.look()
        assert ours.recv(16) == b"", "its reader is told that it has gone"
        ours.sendall(b"an answer")
        assert theirs.recv(16) == b"an answer"
        now[0] = punctual.WHOLE_S + 1
        clock.look()
        assert theirs.recv(16) == b"", "nor may the answer be taken byte by byte"


def test_the_clock_leaves_alone_who_has_been_answered():
    now = [0.0]
    clock = punctual.Clock(now=lambda: now[0])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        clock.begin(ours)
        clock.end(ours)
        now[0] = punctual.WHOLE_S + 1
        clock.look()
        theirs.sendall(b"the next one")
        assert ours.recv(16) == b"the next one"


def test_the_limits_on_slowness_are_set():
    assert punctual.HEAD_S <= 30
    assert punctual.BODY_S <= 120
    assert gunicorn.worker_class == "services.gateway.punctual.PunctualWorker"
    assert gunicorn.CLIENT_SILENCE_S <= 15
    assert reading.MAX_UPLOAD_S <= 120
    assert (gunicorn.worker_connections, gunicorn.limit_request_line) <= (512, 2_048)
    assert gunicorn.limit_request_fields * gunicorn.limit_request_field_size <= 1 << 20


def test_a_body_that_comes_byte_by_byte_runs_out_of_time(monkeypatch):
    """However often it sends something, so that no silence ever ends it."""
    now = [0.0]
    monkeypatch.setattr(reading.time, "monotonic", lambda: now[0])

    class OneByteAMinute:
        def read(self, size):
            now[0] += 60
            return b"x"

    body = reading._BodyInTime(OneByteAMinute(), reading.MAX_UPLOAD_S)
    assert [body.read(65_536) for _ in range(3)] == [b"x"] * 3
    with pytest.raises(TimeoutError):
        body.read(65_536)
