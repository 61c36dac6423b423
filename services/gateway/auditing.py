"""What of the gateway's work goes into the audit log: whatever changes something, and whatever hands a picture or a
result out as a document. Polls do not: they would bury the rest, and show nothing that the upload does not.
"""

from __future__ import annotations

import contextlib
import uuid

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
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def is_audited(endpoint: str | None, method: str) -> bool:
    """Whether requests of a route leave a line."""
    return endpoint is not None and (method not in _READING or endpoint in HANDED_OUT)


def register_audit(app: Flask, gateway: Gateway) -> None:
    """Adds a line for each such request, once its answer is known."""

    @app.after_request
    def note(response: Response) -> Response:
        if is_audited(request.endpoint, request.method) and response.status_code not in _NOT_NOTED:
            key = caller().key
            try:
                gateway.audit.note(
                    str(request.endpoint), str(response.status_code), key.id if key else None, _subject(response)
                )
            except Exception:  # whatever it is, the answer is known and stands
                log.exception("audit_line_lost", action=request.endpoint, outcome=response.status_code)
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
