"""Slow heads and slow bodies, on the loopback interface: a bounded number of them leaves the gateway answering."""

from __future__ import annotations

import contextlib
import socket
import time
from types import SimpleNamespace

import pytest
import tenacity
from gunicorn.config import Config
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import ThreadWorker

from services.gateway import gunicorn, pace, punctual
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


@pytest.fixture
def body_begun():
    """Time, a clock by it, and a connection of which the head is there."""
    now = [0.0]
    clock = punctual.Clock(now=lambda: now[0])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        clock.begin(ours)
        clock.head_is_there(ours)
        yield now, clock, ours


def test_the_clock_ends_what_is_late_and_nothing_else():
    now = [0.0]
    clock = punctual.Clock(now=lambda: now[0])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        clock.begin(ours)
        now[0] = punctual.HEAD_S - 1
        clock.head_is_there(ours)
        now[0] += pace.BODY_S - 1
        clock.look()
        theirs.sendall(b"in time")
        assert ours.recv(16) == b"in time"
        now[0] += 2
        clock.look()
        assert ours.recv(16) == b"", "its reader is told that it has gone"
        ours.sendall(b"an answer")
        assert theirs.recv(16) == b"an answer"
        now[0] += punctual.ANSWER_S
        clock.look()
        assert theirs.recv(16) == b"", "nor may the answer be taken byte by byte"


def test_the_clock_leaves_alone_who_has_been_answered():
    now = [0.0]
    clock = punctual.Clock(now=lambda: now[0])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        clock.begin(ours)
        clock.end(ours)
        now[0] = punctual.HEAD_S + punctual.ANSWER_S + 1
        clock.look()
        theirs.sendall(b"the next one")
        assert ours.recv(16) == b"the next one"


def test_the_largest_batch_may_come_at_one_megabit_a_second(monkeypatch, settings):
    now = [0.0]
    monkeypatch.setattr(reading.time, "monotonic", lambda: now[0])
    piece = b"x" * 65_536

    class OneMegabitASecond:
        def read(self, size):
            now[0] += len(piece) * 8 / 1e6
            return piece

    clock = punctual.Clock(now=lambda: now[0])
    body = reading._BodyInTime(OneMegabitASecond())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        clock.begin(ours)
        clock.head_is_there(ours)
        for _ in range(settings.max_batch_bytes // len(piece)):
            clock.has_come(ours, len(body.read(65_536)))
            clock.look()
        # What it is answered with has its time from there on.
        now[0] += pace.BODY_S + punctual.ANSWER_S - 1
        clock.look()
        ours.sendall(b"202")
        assert theirs.recv(16) == b"202"
    assert now[0] > 1_600, "half an hour for 200 MB"


def test_who_announces_much_and_sends_little_has_no_longer_than_others(body_begun):
    now, clock, ours = body_begun
    while now[0] < pace.BODY_S:
        clock.has_come(ours, 1)
        now[0] += 10
    now[0] += 1
    clock.look()
    assert ours.recv(16) == b""


def test_what_the_server_reads_of_a_body_is_counted(monkeypatch):
    """Through gunicorn's own readers, by whose pieces the clock goes."""
    now = [0.0]
    worker = punctual.PunctualWorker.__new__(punctual.PunctualWorker)
    worker.clock = punctual.Clock(now=lambda: now[0])

    def read(_self, request, _connection):
        now[0] = 10.0
        return request.body.read(50_000)

    monkeypatch.setattr(ThreadWorker, "handle_request", read)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        theirs.sendall(b"x" * 50_000)
        worker.clock.begin(ours)
        request = SimpleNamespace(body=Body(LengthReader(SocketUnreader(ours, 50_000), 200_000_000)))
        assert worker.handle_request(request, SimpleNamespace(sock=ours)) == b"x" * 50_000
        now[0] = pace.BODY_S + 0.3  # 50,000 bytes are 0.4 s
        worker.clock.look()
        theirs.sendall(b"x" * 1_024)
        assert request.body.read(1_024) == b"x" * 1_024
        now[0] += 1
        worker.clock.look()
        assert request.body.read(1_024) == b""


def test_who_sends_most_at_once_and_then_trickles_has_no_longer_than_others(body_begun):
    now, clock, ours = body_begun
    clock.has_come(ours, 199_000_000)
    now[0] = pace.BODY_S + 1
    clock.look()
    assert ours.recv(16) == b""


def test_a_kept_connection_has_the_time_of_a_head_for_its_next_one(monkeypatch):
    """gunicorn reads the body before out once more when it begins with the next head."""
    now = [1_000.0]
    worker = punctual.PunctualWorker.__new__(punctual.PunctualWorker)
    worker.clock = punctual.Clock(now=lambda: now[0])
    monkeypatch.setattr(ThreadWorker, "handle_request", lambda _self, request, _connection: request.body.read())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        parser = RequestParser(Config(), ours, ("127.0.0.1", 1))
        theirs.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        worker.clock.begin(ours)
        assert worker.handle_request(next(parser), SimpleNamespace(sock=ours)) == b"abc"
        worker.clock.end(ours)
        worker.clock.begin(ours)
        following = next(parser)
        now[0] += punctual.HEAD_S - 1
        worker.clock.look()
        assert worker.handle_request(following, SimpleNamespace(sock=ours)) == b""
        ours.sendall(b"200")
        assert theirs.recv(16) == b"200"
        worker.clock.begin(ours)
        now[0] += punctual.HEAD_S + 1
        worker.clock.look()
        assert ours.recv(16) == b"", "and no more than that"


def test_the_limits_on_slowness_are_set():
    assert punctual.HEAD_S <= 30
    assert pace.BODY_S <= 120
    assert punctual.ANSWER_S <= 480
    assert gunicorn.worker_class == "services.gateway.punctual.PunctualWorker"
    assert gunicorn.CLIENT_SILENCE_S <= 15
    assert pace.BYTES_A_SECOND >= 125_000
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

    body = reading._BodyInTime(OneByteAMinute())
    assert [body.read(65_536) for _ in range(3)] == [b"x"] * 3
    with pytest.raises(TimeoutError):
        body.read(65_536)
