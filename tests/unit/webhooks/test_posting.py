"""A receiver has its seconds, and not one more by being slow in another place."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from services.webhooks import posting
from services.webhooks.addresses import Target
from services.webhooks.posting import post


@pytest.fixture
def trickler():
    """Takes every connection, and answers with a byte of a first line that never ends, twenty times a second."""
    stop = threading.Event()

    def trickle(connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 2")
                while not stop.wait(0.05):
                    connection.sendall(b"x")
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=trickle, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield Target("http", "receiver.example", listener.getsockname()[1], "/", "127.0.0.1")
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)


def test_a_receiver_that_answers_byte_by_byte_is_hung_up_on(trickler):
    began = time.monotonic()
    with pytest.raises((OSError, posting.http.client.HTTPException)):
        post(trickler, b"{}", {}, timeout_s=0.5)
    assert time.monotonic() - began < 5


def test_so_is_one_whose_time_was_over_while_it_was_being_connected_to(trickler, monkeypatch):
    """There was nothing to hang up on when the time was over; it must not be forgotten."""
    connect = socket.create_connection

    def slowly(*arguments, **keywords):
        time.sleep(0.6)
        return connect(*arguments, **keywords)

    monkeypatch.setattr(posting.socket, "create_connection", slowly)
    ended: list[BaseException] = []

    def send() -> None:
        try:
            post(trickler, b"{}", {}, timeout_s=0.3)
        except (OSError, posting.http.client.HTTPException) as error:
            ended.append(error)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), "it would listen for as long as the receiver likes"
    assert ended
