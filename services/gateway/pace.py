"""How long a request's body may take: two minutes, and on from there for as long as it keeps coming.

By what has come and not by what was announced: a batch of 200 MB may take half an hour over a slow line, and who
announces one and sends a byte now and then has two minutes like everybody.
"""

from __future__ import annotations

#: Seconds any body may take: 15 MB at 1 Mbit/s. The server gives up a silent client earlier (`gunicorn.py`).
BODY_S = 120.0
#: Bytes that buy a second more: 1 Mbit/s, a poor line's.
BYTES_A_SECOND = 125_000


def seconds_for(received_bytes: int) -> float:
    """Seconds after its head within which a body of which this much has come has to be there, or go on coming."""
    return BODY_S + received_bytes / BYTES_A_SECOND
