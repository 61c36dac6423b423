"""How long a request's body may take: two minutes, and on from there for as long as it keeps coming at 1 Mbit/s.

By what has come and not by what was announced: a batch of 200 MB may take half an hour over a slow line, and who
announces one and sends a byte now and then has two minutes like everybody. So has who sends most of it at once and
then no more: nobody is ever given more than two minutes from now.
"""

from __future__ import annotations

#: Seconds any body may take: 15 MB at 1 Mbit/s. The server gives up a silent client earlier (`gunicorn.py`).
BODY_S = 120.0
#: Bytes that buy a second more: 1 Mbit/s, a poor line's.
BYTES_A_SECOND = 125_000


class Pace:
    """When a body that keeps coming would be too late: `until`, by the clock of whoever asks."""

    def __init__(self, now: float) -> None:
        self.until = self._usual = now + BODY_S

    def has_come(self, count: int, now: float) -> None:
        """So many bytes more."""
        self.until = max(self._usual, min(self.until + count / BYTES_A_SECOND, now + BODY_S))
