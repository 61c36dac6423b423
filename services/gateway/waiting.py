"""`Prefer: wait=n` (RFC 7240): the answer now, if it changes within n seconds."""

from __future__ import annotations

import re

from flask import Request, Response

#: Longest wait in seconds, whatever is asked for: proxies commonly give up after 30.
MAX_WAIT_S = 25

_WAIT = re.compile(r"""(?:^|[,;\s])wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;\s])""", re.IGNORECASE)


def preferred_wait_s(request: Request) -> int:
    """Seconds the caller prefers to wait, cut to `MAX_WAIT_S`; 0 when it did not say so, or not understandably."""
    found = _WAIT.search(", ".join(request.headers.getlist("Prefer")))
    return min(int(found.group(1)), MAX_WAIT_S) if found else 0


def say_waited(response: Response, seconds: int, *, waited: bool) -> Response:
    """Tells the caller that its preference was honoured."""
    if waited:
        response.headers["Preference-Applied"] = f"wait={seconds}"
    response.vary.add("Prefer")
    return response
