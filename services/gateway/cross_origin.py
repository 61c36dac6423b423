"""CORS: which other sites' pages may use the API from a browser. None, unless the operator names them.

Only `/v1` is ever opened. No cookie opens anything there (`access.py`), so credentials are not allowed: a foreign page
gets no further than a program would, with a key of its own or without one.
"""

from __future__ import annotations

from http import HTTPStatus

from flask import Flask, Response, request

from services.gateway.access import API_PREFIX

#: What programs send beyond the headers that browsers always let through.
ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Prefer"
#: What a page has to read to follow an analysis, to wait as long as it is told, and to report a fault.
EXPOSED_HEADERS = "ETag, Location, Preference-Applied, Retry-After, X-Trace-Id"
ALLOWED_METHODS = "GET, POST, DELETE"
#: Seconds a browser may go by the answer to its preflight: Chromium's own upper bound, two hours.
PREFLIGHT_AGE_S = 7_200


def register_cross_origin(app: Flask, origins: frozenset[str]) -> None:
    """Lets pages of these sites read the API's answers. `*`: of any site."""
    if not origins:
        return

    @app.before_request
    def answer_preflight() -> Response | None:
        """Browsers ask without key or body whether they may ask; that must not meet limits or the want of a key."""
        if not (
            request.method == "OPTIONS"
            and request.path.startswith(API_PREFIX)
            and "Access-Control-Request-Method" in request.headers
        ):
            return None
        response = Response(status=HTTPStatus.NO_CONTENT)
        if _allowed(origins):
            response.headers["Access-Control-Allow-Methods"] = ALLOWED_METHODS
            response.headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
            response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_AGE_S)
        return response

    @app.after_request
    def allow(response: Response) -> Response:
        if not request.path.startswith(API_PREFIX):
            return response
        if "*" not in origins:
            response.vary.add("Origin")
        if origin := _allowed(origins):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
            # Otherwise `<img>` could not show what `fetch` may read (attention map, photograph).
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response


def _allowed(origins: frozenset[str]) -> str | None:
    """What to allow in the present request; None: nothing."""
    if "*" in origins:
        return "*"
    origin = request.headers.get("Origin")
    return origin if origin in origins else None
