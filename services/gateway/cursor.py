"""Where a list goes on: the last item's place, in a form that callers pass back and do not read."""

from __future__ import annotations

import base64
import datetime as dt
import json
import uuid

from services.analysis.record import Analysis
from services.gateway.errors import MalformedRequestError

#: When an analysis was created, and its id: a place among analyses in the order of both.
Place = tuple[dt.datetime, uuid.UUID]


def cursor_after(analysis: Analysis) -> str:
    """The cursor of the page that begins after `analysis`."""
    place = json.dumps([analysis.created_at.isoformat(), analysis.id.hex])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def place_of(cursor: str) -> Place:
    """The place a cursor stands for.

    Raises:
        MalformedRequestError: it is none of ours.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        created_at, analysis_id = json.loads(base64.b64decode(padded.encode(), altchars=b"-_", validate=True))
        # Without a zone it would be the server's local time; `astimezone` makes both kinds comparable.
        moment = dt.datetime.fromisoformat(created_at).astimezone(dt.UTC)
        return moment, uuid.UUID(analysis_id)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise MalformedRequestError("The cursor is none that this service gave out.") from error
