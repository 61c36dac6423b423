"""Every error leaves the gateway through here, as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import errno
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from flask import Flask, Response, g, has_request_context, request
from werkzeug.exceptions import ClientDisconnected, HTTPException

from services.analysis.errors import LesionLensError, ServiceUnavailableError
from services.gateway.door import TooMuchWaitingError
from services.gateway.errors import (
    MalformedRequestError,
    TooManyRequestsError,
    UploadTimeoutError,
    UploadTooLargeError,
)

log = structlog.get_logger()

PROBLEM_JSON = "application/problem+json"

#: A W3C `traceparent` is `00-<32 hex: trace id>-<16 hex>-<2 hex>`.
_TRACEPARENT_PARTS = 4
_TRACE_ID_DIGITS = 32


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem, as its page at `/problems/<slug>` explains it."""

    slug: str
    status: int
    title: str
    advice: str
    meaning: str


#: Problems that the web framework raises rather than this project, by status.
_HTTP_PROBLEMS = {
    404: ProblemType(
        "no-such-address",
        404,
        "There is nothing at this address",
        "Compare the address with the reference at /docs.",
        "The address is not one of this service's.",
    ),
    405: ProblemType(
        "method-not-allowed",
        405,
        "This address does not take that method",
        "Use one of the methods in the Allow header.",
        "The address exists, but not for this HTTP method.",
    ),
    415: ProblemType(
        "unsupported-media-type",
        415,
        "The body is of a kind this address does not take",
        "Send the media type that the reference at /docs names.",
        "The Content-Type of the request is not the one that the address asks for.",
    ),
}


def problem_types() -> dict[str, ProblemType]:
    """Every kind of problem a caller may meet, by slug: the exception tree and what the framework raises."""
    found = {kind.slug: kind for kind in _HTTP_PROBLEMS.values()}
    for error in _tree(LesionLensError):
        # A subclass that only narrows its parent answers as its parent's problem.
        if error.problem not in found:
            found[error.problem] = ProblemType(
                error.problem, error.status, error.title, error.advice, (error.__doc__ or "").strip()
            )
    return dict(sorted(found.items()))


def _tree(root: type[LesionLensError]) -> Iterator[type[LesionLensError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def trace_id() -> str:
    """32 hexadecimal digits that tie a response to its log lines; the caller's own trace id when it sent one."""
    if not has_request_context():
        return uuid.uuid4().hex
    if "trace_id" not in g:
        parts = request.headers.get("traceparent", "").split("-")
        sent = parts[1].lower() if len(parts) == _TRACEPARENT_PARTS else ""
        valid = len(sent) == _TRACE_ID_DIGITS and set(sent) <= set("0123456789abcdef") and set(sent) != {"0"}
        g.trace_id = sent if valid else uuid.uuid4().hex
    return str(g.trace_id)


def problem_body(kind: ProblemType, detail: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The members of RFC 9457 and ours: `advice` for the caller, `trace_id` for the operator."""
    return {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "advice": kind.advice,
        "trace_id": trace_id(),
        **extra,
    }


def problem_response(error: LesionLensError) -> Response:
    """The response an error of the tree is answered with."""
    kind = ProblemType(error.problem, error.status, error.title, error.advice, "")
    extra = {name: value for name in ("code", "errors") if (value := getattr(error, name, None)) not in (None, "")}
    headers: dict[str, str] = {}
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    challenge = getattr(error, "challenge", None)
    if challenge is not None:
        headers["WWW-Authenticate"] = challenge
    return _response(problem_body(kind, error.detail, extra), headers)


def _response(body: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    response = Response(json.dumps(body, ensure_ascii=False), status=int(body["status"]), content_type=PROBLEM_JSON)
    response.headers.update(headers)
    response.headers["Cache-Control"] = "no-store"
    return response


def answer_expected(error: LesionLensError) -> Response:
    """Handler for what this project raises on purpose."""
    # A refusal for want of room is no failure, and there are hundreds a second of them; the metrics count them.
    if error.status >= 500 and not isinstance(error, TooMuchWaitingError):
        log.error("request_failed", problem=error.problem, detail=error.detail, trace_id=trace_id())
    return problem_response(error)


def answer_http(error: HTTPException) -> Response | HTTPException:
    """Handler for what the web framework raises (404, 405, 413, 429, …)."""
    status = error.code or 500
    if status < 400:
        return error
    if isinstance(error, ClientDisconnected):
        return problem_response(UploadTimeoutError())
    if status == 413:
        return problem_response(UploadTooLargeError())
    if status == 429:
        return problem_response(TooManyRequestsError(retry_after_s=_retry_after_s(error)))
    if status in _HTTP_PROBLEMS:
        kind = _HTTP_PROBLEMS[status]
        headers = {}
        valid_methods = getattr(error, "valid_methods", None)
        if valid_methods:
            headers["Allow"] = ", ".join(sorted(valid_methods))
        return _response(problem_body(kind, kind.meaning, {}), headers)
    if status < 500:
        kind = ProblemType(
            MalformedRequestError.problem,
            status,
            MalformedRequestError.title,
            MalformedRequestError.advice,
            "",
        )
        return _response(problem_body(kind, error.description or kind.title, {}), {})
    return answer_unexpected(error)


def answer_full(error: OSError) -> Response:
    """Handler for an upload that found no room among the temporary files; other errors of the system are unexpected."""
    if error.errno != errno.ENOSPC:
        return answer_unexpected(error)
    return answer_expected(ServiceUnavailableError("There is no room for the upload beside those under way."))


def answer_unexpected(error: Exception) -> Response:
    """Handler for everything else: the cause goes to the log, not to the caller."""
    log.error("unexpected_error", exc_info=error, trace_id=trace_id())
    return problem_response(LesionLensError("An unexpected error was recorded under the trace id."))


#: Seconds to wait when a fixed window's end is not known: the windows of all limits are one minute.
DEFAULT_RETRY_AFTER_S = 60


def _retry_after_s(error: HTTPException) -> int:
    retry_after = getattr(error, "retry_after", None)
    return retry_after if isinstance(retry_after, int) else DEFAULT_RETRY_AFTER_S


def register_problems(app: Flask) -> None:
    """Makes the handlers above answer for the whole application."""
    app.register_error_handler(LesionLensError, answer_expected)
    app.register_error_handler(HTTPException, answer_http)
    app.register_error_handler(OSError, answer_full)
    app.register_error_handler(Exception, answer_unexpected)
