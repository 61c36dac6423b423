"""What of the gateway's work goes into the audit log: whatever changes something, and whatever hands a picture or a
result out as a document. Polls do not: they would bury the rest, and show nothing that the upload does not.

A line stays for a year, so nobody may write as many as they like. Of whoever has no valid key no refusal is noted, and
of one analysis no repetition within the hour and no more than some lines: it can be deleted, or fetched, any number of
times.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from flask import Flask, Response, request

from services.gateway.access import caller
from services.gateway.parts import Gateway

log = structlog.get_logger()

#: Reading that leaves the service as a document.
HANDED_OUT = frozenset(
    {"exports.image", "exports.report", "exports.fhir", "batches.batch_table", "analyses.list_own", "pages.reminder"}
)
#: Refusals for being busy: an attacker could fill the table with them, and they are counted in the metrics.
_NOT_NOTED = frozenset({429, 503})
#: Seconds in which what somebody without a key does again is no news; lines in them of one analysis, more than anybody
#: makes who is no program; and of how many analyses a process knows (4 MB).
_REPEATED_WITHIN_S = 3600.0
_LINES_AN_HOUR = 30
_REMEMBERED = 10_000
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def is_audited(endpoint: str | None, method: str) -> bool:
    """Whether requests of a route leave a line."""
    return endpoint is not None and (method not in _READING or endpoint in HANDED_OUT)


@dataclass(slots=True)
class _Noted:
    since: float
    lines: int
    last: tuple[str, ...]


class _Repetitions:
    """What was noted lately of whoever has no key, by analysis or batch. Shared by the threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: OrderedDict[uuid.UUID | None, _Noted] = OrderedDict()

    def is_news(self, subject: uuid.UUID | None, line: tuple[str, ...]) -> bool:
        """Whether it is not what was noted last, nor one of very many, within the hour; then it counts as noted."""
        now = time.monotonic()
        with self._lock:
            noted = self._noted.get(subject)
            if noted is None or now - noted.since >= _REPEATED_WITHIN_S:
                noted = self._noted[subject] = _Noted(now, 0, ())
                self._noted.move_to_end(subject)
                if len(self._noted) > _REMEMBERED:
                    self._noted.popitem(last=False)
            if noted.last == line or noted.lines >= _LINES_AN_HOUR:
                return False
            noted.last, noted.lines = line, noted.lines + 1
        return True


def register_audit(app: Flask, gateway: Gateway) -> None:
    """Adds a line for each such request, once its answer is known."""
    repetitions = _Repetitions()

    @app.after_request
    def note(response: Response) -> Response:
        status = response.status_code
        if not is_audited(request.endpoint, request.method) or status in _NOT_NOTED:
            return response
        action, outcome, subject, key = str(request.endpoint), str(status), _subject(response), caller().key
        failed = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        line = (action, outcome, request.path, response.headers.get("Location", ""))
        if key is None and (failed or not repetitions.is_news(subject, line)):
            return response
        try:
            gateway.audit.note(action, outcome, key.id if key else None, subject)
        except Exception:  # whatever it is, the answer is known and stands
            log.exception("audit_line_lost", action=action, outcome=status)
        return response


def _subject(response: Response) -> uuid.UUID | None:
    """The analysis or batch in the address, or the one that was just made. What is no id is a stranger's words."""
    arguments = request.view_args or {}
    named = arguments.get("analysis_id") or arguments.get("batch_id")
    if named is None:
        made = response.headers.get("Location", "")
        named = made.rstrip("/").rpartition("/")[2] if "/analyses/" in made or "/batches/" in made else ""
    with contextlib.suppress(ValueError):
        return uuid.UUID(str(named))
    return None
