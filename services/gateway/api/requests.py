"""Reads what a request says, and refuses what it says wrongly, in sentences."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Collection
from dataclasses import replace
from typing import IO, Any

from flask import Request, current_app
from werkzeug.datastructures import FileStorage

from services.analysis.errors import AnalysisNotFoundError, WebhookNotFoundError
from services.analysis.results import OLDEST_YEARS, YOUNGEST_YEARS
from services.gateway.access import caller
from services.gateway.door import TooMuchWaitingError
from services.gateway.errors import (
    BatchNotFoundError,
    FeedbackNotFoundError,
    ImageMissingError,
    MalformedRequestError,
    UploadTooLargeError,
)
from services.gateway.pace import Pace
from services.gateway.parts import Gateway
from services.gateway.uploads import UploadOptions, counted_if_refused

#: Bytes of a multipart request besides the photographs: boundaries, headers, options.
MULTIPART_OVERHEAD_BYTES = 65_536

#: Characters of an Idempotency-Key: a UUID has 36, the draft's examples fewer; longer ones are somebody's mistake.
MAX_IDEMPOTENCY_KEY_CHARS = 255

#: Bytes and seconds that are read from an upload that is refused for its size. A client that writes its whole body
#: before it listens would otherwise see a broken connection instead of the answer.
MAX_DRAINED_BYTES = 64_000_000
MAX_DRAIN_S = 10.0
_DRAIN_CHUNK_BYTES = 65_536

#: Items on one page of a list, by default and at most: the largest is about half a megabyte.
DEFAULT_PAGE_ITEMS = 50
MAX_PAGE_ITEMS = 200

#: Sides a lesion can be looked at from: in its pose and at a half turn, both mirrored, and all four at a quarter turn.
TURNS = (1, 2, 4, 8)

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def gateway() -> Gateway:
    """The parts of the application that answers this request, with the record as far as its caller may see it."""
    parts: Gateway = current_app.extensions["lesionlens"]
    key = caller().key
    return parts if key is None else replace(parts, record=parts.record.on_behalf_of(key.id))


def parse_analysis_id(text: str) -> uuid.UUID:
    """The id in an address; one that cannot be an id names no analysis."""
    parsed = _uuid(text)
    if parsed is None:
        raise AnalysisNotFoundError("This is not the id of an analysis.")
    return parsed


def parse_batch_id(text: str) -> uuid.UUID:
    """The id in an address; one that cannot be an id names no batch."""
    parsed = _uuid(text)
    if parsed is None:
        raise BatchNotFoundError("This is not the id of a batch.")
    return parsed


def parse_feedback_id(text: str) -> uuid.UUID:
    """The id in an address; one that cannot be an id names no feedback."""
    parsed = _uuid(text)
    if parsed is None:
        raise FeedbackNotFoundError("This is not the id of a feedback.")
    return parsed


def parse_webhook_id(text: str) -> uuid.UUID:
    """The id in an address; one that cannot be an id names no webhook."""
    parsed = _uuid(text)
    if parsed is None:
        raise WebhookNotFoundError("This is not the id of a webhook.")
    return parsed


def _uuid(text: str) -> uuid.UUID | None:
    # Only the one form that the service gives out: the library also takes braces, "urn:uuid:" and missing hyphens.
    with contextlib.suppress(ValueError):
        parsed = uuid.UUID(text)
        if str(parsed) == text.lower():
            return parsed
    return None


def limit_body(request: Request, max_bytes: int) -> None:
    """Refuses a larger body before its form is read."""
    request.environ["wsgi.input"] = _BodyInTime(request.environ["wsgi.input"])
    request.max_content_length = max_bytes
    if request.content_length is not None and request.content_length > max_bytes:
        _drain(request)
        raise UploadTooLargeError(f"The request has {request.content_length:,} bytes; at most {max_bytes:,} are taken.")


def refuse_when_full(request: Request, parts: Gateway) -> None:
    """Refuses an upload before its form is read, let alone its photograph, when too many wait already.

    Raises:
        TooMuchWaitingError: come back later; the body was read and thrown away, so that the answer is heard.
    """
    try:
        with counted_if_refused(parts):
            parts.door.check()
    except TooMuchWaitingError:
        _drain(request)
        raise


class _BodyInTime:
    """A request's body that must keep its pace: each thread that waits for one serves nobody else."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._pace = Pace(time.monotonic())

    def read(self, size: int = -1) -> bytes:
        """Reads on; the web framework takes the error for a client that has gone."""
        if time.monotonic() > self._pace.until:
            raise TimeoutError
        piece = self._stream.read(size)
        self._pace.has_come(len(piece), time.monotonic())
        return piece


def _drain(request: Request) -> None:
    stream, left, end = request.environ["wsgi.input"], MAX_DRAINED_BYTES, time.monotonic() + MAX_DRAIN_S
    left = min(left, request.content_length or 0)
    with contextlib.suppress(OSError, ValueError):
        while left > 0 and time.monotonic() < end:
            chunk = stream.read(min(_DRAIN_CHUNK_BYTES, left))
            if not chunk:
                return
            left -= len(chunk)


def image_field(request: Request) -> bytes:
    """The bytes of the multipart field `image`. Its file name is not looked at.

    Raises:
        ImageMissingError: no such field, or text in its place, or several of them.
    """
    if request.mimetype != "multipart/form-data":
        raise ImageMissingError("The request is not multipart/form-data with a file in the field “image”.")
    files: list[FileStorage] = request.files.getlist("image")
    if len(files) > 1:
        raise ImageMissingError("There are several files in “image”. Send them to /v1/batches.")
    if not files:
        if "image" in request.form:
            raise ImageMissingError("The field “image” is text. Send the photograph as a file.")
        raise ImageMissingError("The field “image” is missing.")
    unexpected = sorted(set(request.files) - {"image"})
    if unexpected:
        raise MalformedRequestError(f"There is no file field “{unexpected[0][:40]}” here.")
    data: bytes = files[0].read()
    return data


def upload_options(request: Request) -> UploadOptions:
    """The options of an upload: form fields `force`, `store`, `tta`, `explain` and `age`, header Idempotency-Key."""
    refuse_unknown(request.form, {"force", "store", "tta", "explain", "age"})
    return UploadOptions(
        force=_boolean(request, "force", default=False),
        store=_boolean(request, "store", default=True),
        turns=_turns(request),
        explain=_boolean(request, "explain", default=False),
        age_years=age_years(request),
        idempotency_key=_idempotency_key(request),
    )


def page_limit(request: Request) -> int:
    """How many items the caller wants on a page of a list: query parameter `limit`."""
    text = request.args.get("limit", str(DEFAULT_PAGE_ITEMS))
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MAX_PAGE_ITEMS):
        raise MalformedRequestError(f"The parameter “limit” must be a number from 1 to {MAX_PAGE_ITEMS}.")
    return int(text)


def refuse_unknown(fields: Collection[str], known: Collection[str]) -> None:
    """An option that is ignored in silence would be taken for obeyed."""
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise MalformedRequestError(
            f"There is no field “{unknown[0][:40]}” here; known are {', '.join(sorted(known))}."
        )


def _boolean(request: Request, name: str, *, default: bool) -> bool:
    text = request.form.get(name)
    if text is None:
        return default
    if text.strip().lower() in _TRUE:
        return True
    if text.strip().lower() in _FALSE:
        return False
    raise MalformedRequestError(f"The field “{name}” must be true or false.")


def _turns(request: Request) -> int | None:
    text = request.form.get("tta", "")
    if not text:
        return None
    if text not in map(str, TURNS):
        raise MalformedRequestError(f"The field “tta” must be one of {', '.join(map(str, TURNS))}.")
    return int(text)


def age_years(request: Request) -> int | None:
    """The person's age in the form field `age`, which may be missing or empty.

    Raises:
        MalformedRequestError: it is no whole number of years of a person.
    """
    text = request.form.get("age", "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and YOUNGEST_YEARS <= int(text) <= OLDEST_YEARS):
        raise MalformedRequestError(
            f"The field “age” must be a whole number of years from {YOUNGEST_YEARS} to {OLDEST_YEARS}, or empty."
        )
    return int(text)


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not key.strip() or len(key) > MAX_IDEMPOTENCY_KEY_CHARS:
        raise MalformedRequestError(f"Idempotency-Key must have between 1 and {MAX_IDEMPOTENCY_KEY_CHARS} characters.")
    return key


def json_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body.

    Raises:
        MalformedRequestError: it is something else.
    """
    body = None
    # Some thousand brackets inside each other are JSON, but not for Python's parser.
    with contextlib.suppress(RecursionError):
        body = request.get_json(silent=True, force=True)
    if not isinstance(body, dict):
        raise MalformedRequestError("The body must be a JSON object.")
    return body
