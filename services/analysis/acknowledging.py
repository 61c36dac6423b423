"""What becomes of a worker that could not acknowledge a message.

Celery notes it in the log and goes on. On Redis an acknowledgement has a connection of its own, so the one that
messages come from is still in order, nothing connects anew, and the message counts as not acknowledged for ever: a
worker that may hold one message at a time gets no other one (kombu 5.6; celery/celery#2415, #8030). Here the worker
connects anew instead, which forgets what it had taken; the record's leases keep that from being worked on twice.
"""

from __future__ import annotations

from typing import Any

from celery import Task
from celery.worker.request import Request
from kombu.asynchronous import get_event_loop
from kombu.message import Message


class ListeningRequest(Request):  # type: ignore[misc]
    """A request whose worker goes on listening, whatever became of its acknowledgement."""

    def acknowledge(self) -> None:
        """Has the message acknowledged; the worker connects anew when that fails."""
        super().acknowledge()
        _soon(_check_soon, self.message)

    def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - as in the base class
        """Has the message rejected; the worker connects anew when that fails."""
        super().reject(requeue)
        _soon(_check_soon, self.message)


class ListeningTask(Task):  # type: ignore[misc]
    """The tasks of every service."""

    Request = f"{ListeningRequest.__module__}:{ListeningRequest.__name__}"


def _soon(function: Any, message: Message) -> None:
    loop = get_event_loop()
    if loop is not None:
        loop.call_soon(function, message)  # type: ignore[no-untyped-call]


def _check_soon(message: Message) -> None:
    # What is to be done soon is done in any order: the acknowledgement itself waits in this turn, too.
    _soon(_check, message)


def _check(message: Message) -> None:
    """Raised in the worker's loop, the error is taken for the loss of its connection.

    A message that came through a connection before the present one cannot be acknowledged, and need not be.
    """
    if not message.acknowledged and not message.channel.closed:
        raise ConnectionError("a message could not be acknowledged")
