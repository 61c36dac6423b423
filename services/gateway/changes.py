"""Hears of every change of an analysis through PostgreSQL's LISTEN, and wakes whoever waits for it.

One thread and one connection per process, started at the first wait, so after any fork. A lost connection is made
again; until then, and for a change that was announced in between, waiters look for themselves once a second.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg2  # type: ignore[import-untyped]
import structlog
from psycopg2 import sql

from services.analysis.database import CONNECT_TIMEOUT_S
from services.analysis.statements import CHANGES_CHANNEL, GOES_ON

log = structlog.get_logger()

Answer = TypeVar("Answer")

#: Seconds after which a waiter looks for itself, whether or not it was woken.
LOOK_ANYWAY_S = 1.0
#: Seconds between two tries to connect again.
RECONNECT_S = 1.0
#: Seconds of silence after which the listener checks whether it has been asked to stop.
SILENCE_S = 5.0


class Changes:
    """Lets requests wait for a change. Connects at the first wait."""

    def __init__(self, database_url: str, max_waiters: int) -> None:
        """At most `max_waiters` wait at once; further ones are answered without waiting."""
        self._url = database_url.replace("postgresql+psycopg2://", "postgresql://", 1)
        self._slots = threading.BoundedSemaphore(max_waiters)
        self._waiters: defaultdict[str, set[threading.Event]] = defaultdict(set)
        #: Those of the waiters who wait for the end alone.
        self._patient: set[threading.Event] = set()
        self._lock = threading.Lock()
        self._listening_in: int | None = None
        self._stopped = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()

    @property
    def waiting(self) -> int:
        """How many requests wait now."""
        with self._lock:
            return sum(len(events) for events in self._waiters.values())

    def wait_until(
        self,
        analysis_id: str,
        look: Callable[[], Answer],
        is_enough: Callable[[Answer], bool],
        seconds: float,
        *,
        only_its_end: bool = False,
        seen: Answer | None = None,
    ) -> tuple[Answer, bool]:
        """Calls `look` now and after every change of the analysis, until what it gives is enough or `seconds` are over.

        Args:
            analysis_id: the analysis whose changes matter.
            look: how it stands; what it raises ends the waiting.
            is_enough: whether to wait no longer.
            seconds: 0 does not wait.
            only_its_end: do not look after changes that certainly did not end the analysis.
            seen: how it stood a moment ago, in place of the first look.

        Returns:
            What `look` gave last, and whether it was possible to wait at all.
        """
        if seconds <= 0 or self._stopped.is_set() or not self._slots.acquire(blocking=False):
            return look() if seen is None else seen, False
        try:
            self._listen()
            # A look before this could miss the change that comes between.
            with self._registered(analysis_id, patient=only_its_end) as changed:
                end = time.monotonic() + seconds
                answer = look() if seen is None else seen
                while not is_enough(answer) and not self._stopped.is_set() and (left_s := end - time.monotonic()) > 0:
                    changed.wait(min(left_s, LOOK_ANYWAY_S))
                    changed.clear()
                    answer = look()
                return answer, True
        finally:
            self._slots.release()

    def stop(self) -> None:
        """Ends the listener and answers every waiter at once."""
        self._stopped.set()
        os.write(self._wake_writer, b"\0")
        self._wake_all()

    @contextmanager
    def _registered(self, analysis_id: str, *, patient: bool) -> Iterator[threading.Event]:
        event = threading.Event()
        with self._lock:
            self._waiters[analysis_id].add(event)
            if patient:
                self._patient.add(event)
        try:
            yield event
        finally:
            with self._lock:
                self._patient.discard(event)
                self._waiters[analysis_id].discard(event)
                if not self._waiters[analysis_id]:
                    del self._waiters[analysis_id]

    def _listen(self) -> None:
        with self._lock:
            # A thread does not survive a fork, the memory that says it runs does: hence the process id.
            if self._listening_in == os.getpid():
                return
            self._listening_in = os.getpid()
        threading.Thread(target=self._run, name="changes", daemon=True).start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._hear()
            except (psycopg2.Error, OSError) as error:
                log.warning("changes_connection_lost", error=type(error).__name__)
                self._wake_all()
                self._stopped.wait(RECONNECT_S)

    def _hear(self) -> None:
        connection = psycopg2.connect(
            self._url,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name="lesionlens-changes",
            # A database that vanished without a word is noticed after 10 + 3 × 5 seconds.
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANGES_CHANNEL)))
            self._wake_all()
            while not self._stopped.is_set():
                select.select((connection, self._wake_reader), (), (), SILENCE_S)
                connection.poll()
                while connection.notifies:
                    self._wake(connection.notifies.pop(0).payload)
        finally:
            connection.close()

    def _wake(self, payload: str) -> None:
        analysis_id = payload.removesuffix(GOES_ON)
        goes_on = analysis_id != payload
        with self._lock:
            for event in self._waiters.get(analysis_id, ()):
                if not (goes_on and event in self._patient):
                    event.set()

    def _wake_all(self) -> None:
        with self._lock:
            for events in self._waiters.values():
                for event in events:
                    event.set()
