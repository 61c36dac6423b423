"""gunicorn's threads with a clock: each request has to be there in time, however steadily its sender keeps sending.

A limit of silence (`gunicorn.py`) ends those who say nothing. Who sends a byte every ten seconds is never silent, and
the server reads until it has what it asked for: a handful of such senders would hold every thread for days (slowloris).
So one thread looks once a second for requests whose time is over, and ends the reading of their connections: whoever
reads is told that the sender has gone.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from services.gateway.pace import Pace

#: Seconds a request's head may take, from when its connection is given a thread: it fits into a few packets.
HEAD_S = 20.0
#: Seconds after those of the body (`pace.py`) within which the answer must have been taken: a batch of 100 photographs
#: is checked and answered.
ANSWER_S = 460.0
#: Seconds between two looks.
LOOK_S = 1.0


@dataclass(slots=True)
class _Sender:
    connection: socket.socket
    head_by: float
    body: Pace | None = None

    @property
    def read_by(self) -> float:
        return self.head_by if self.body is None else self.body.until


@dataclass(slots=True)
class Clock:
    """Whose time is over? Shared by the threads of one process."""

    now: Callable[[], float] = time.monotonic
    _senders: dict[int, _Sender] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, connection: socket.socket) -> None:
        """A request is about to be read: first its head."""
        with self._lock:
            self._senders[id(connection)] = _Sender(connection, self.now() + HEAD_S)

    def head_is_there(self, connection: socket.socket) -> None:
        """Now its body."""
        with self._lock:
            if sender := self._senders.get(id(connection)):
                sender.body = Pace(self.now())

    def has_come(self, connection: socket.socket, count: int) -> None:
        """So many bytes more of its body; of the one before, which gunicorn reads out before a head, none counts."""
        with self._lock:
            if (sender := self._senders.get(id(connection))) and sender.body:
                sender.body.has_come(count, self.now())

    def end(self, connection: socket.socket) -> None:
        """The request was answered, or given up."""
        with self._lock:
            self._senders.pop(id(connection), None)

    def look(self) -> None:
        """Ends the reading of what comes too late, and all of what takes far too long."""
        now = self.now()
        # Under the lock, so that no connection is ended that has gone on to its next request.
        with self._lock:
            for sender in self._senders.values():
                if now > sender.read_by:
                    # Again at each look: what arrives in between may still be read, a byte at a time.
                    over = now > sender.read_by + ANSWER_S
                    with contextlib.suppress(OSError):
                        sender.connection.shutdown(socket.SHUT_RDWR if over else socket.SHUT_RD)

    def run(self) -> None:
        """Looks for ever."""
        while True:
            time.sleep(LOOK_S)
            self.look()


class _Counted:
    """What gunicorn reads a body from, each piece told to the clock."""

    def __init__(self, reader: Any, has_come: Callable[[int], None]) -> None:
        self._reader = reader
        self._has_come = has_come

    def read(self, size: int) -> bytes:
        """Reads on."""
        piece: bytes = self._reader.read(size)
        self._has_come(len(piece))
        return piece


class PunctualWorker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's `gthread`, with a clock."""

    def init_process(self) -> None:
        """After the fork, for threads do not survive one."""
        self.clock = Clock()
        threading.Thread(target=self.clock.run, name="clock", daemon=True).start()
        super().init_process()

    def handle(self, conn: Any) -> Any:
        """One request of a connection, or the wait for its first byte."""
        connection = conn.sock
        self.clock.begin(connection)
        try:
            return super().handle(conn)
        finally:
            self.clock.end(connection)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """A request whose head is there."""
        self.clock.head_is_there(conn.sock)
        req.body.reader = _Counted(req.body.reader, partial(self.clock.has_come, conn.sock))
        return super().handle_request(req, conn)
