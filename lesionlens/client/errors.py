"""What can go wrong between a client and the service: one small tree.

A photograph that was taken in but cannot be answered for is no error: its analysis is `rejected`, with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lesionlens.client.answers import Analysis, Batch


class ClientError(Exception):
    """Base of everything that `lesionlens.Client` raises on purpose."""


class NoAnswerError(ClientError):
    """Nobody answered: wrong address, no network, or the service is down. Whether it was tried again: see `Client`."""


class UnexpectedAnswerError(ClientError):
    """Somebody answered, but not as LesionLens does: a wrong address, a redirect, a proxy's page."""


class NotFinishedError(ClientError):
    """The time to wait is over and the analysis (or batch) goes on. `last` is how it stood; wait again."""

    def __init__(self, last: Analysis | Batch) -> None:
        super().__init__(f"{last.id} is not finished yet.")
        self.last = last


class ProblemError(ClientError):
    """The service refused, and says why (RFC 9457).

    Attributes:
        status: the HTTP status.
        type: stable, `/problems/…`; that page of the service explains it. `about:blank` when a proxy answered.
        title: what kind of problem it is.
        detail: what is wrong here.
        advice: what to do about it.
        code: why a photograph is refused, for programs; empty for other problems.
        trace_id: names the request in the operator's log.
        retry_after_s: seconds after which the service wants to be asked again, if it said so.
    """

    def __init__(self, status: int, body: Mapping[str, Any], retry_after_s: float | None = None) -> None:
        self.status = status
        self.type = str(body.get("type", "about:blank"))
        self.title = str(body.get("title", f"HTTP status {status}"))
        self.detail = str(body.get("detail", self.title))
        self.advice = str(body.get("advice", ""))
        self.code = str(body.get("code", ""))
        self.trace_id = str(body.get("trace_id", ""))
        self.retry_after_s = retry_after_s
        super().__init__(f"{status} {self.title}: {self.detail} {self.advice}".rstrip())

    @property
    def reason(self) -> str:
        """`code`, or else the last part of `type` written as a code is."""
        return self.code or self.type.rsplit("/", 1)[-1].replace("-", "_")


class RefusedError(ProblemError):
    """The photograph or the request cannot be taken as it is (400, 413, 415, 422). Sending it again changes nothing."""


class AccessError(ProblemError):
    """The API key is wrong, revoked, or not for this (401, 403)."""


class NotFoundError(ProblemError):
    """There is no such thing, or it belongs to another key (404)."""


class GoneError(NotFoundError):
    """It existed and was deleted (410)."""


class BusyError(ProblemError):
    """Too much was asked, or a part of the service is away (429, 502, 503, 504), and trying again did not help."""


_BY_STATUS: Mapping[int, type[ProblemError]] = {
    400: RefusedError, 413: RefusedError, 415: RefusedError, 422: RefusedError,
    401: AccessError, 403: AccessError,
    404: NotFoundError, 410: GoneError,
    429: BusyError, 502: BusyError, 503: BusyError, 504: BusyError,
}  # fmt: skip


def problem_error(status: int, body: Mapping[str, Any], retry_after_s: float | None) -> ProblemError:
    """The error for an answer of 400 or above."""
    return _BY_STATUS.get(status, ProblemError)(status, body, retry_after_s)


class WebhookError(ClientError):
    """A message that came to a webhook is not to be believed: forged, damaged, or an old one sent again."""
