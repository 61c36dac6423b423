"""Who is asking: somebody with an API key, or anybody.

Only `/v1` looks at `Authorization`, and there only at `Bearer`: other schemes belong to whatever stands in front of the
gateway. A wrong key is refused rather than passed over, so that nobody takes anonymous limits for those of a key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, cast

from flask import Flask, Request, current_app, g, request
from flask.typing import RouteCallable

from services.analysis.errors import LesionLensError
from services.analysis.keys import ApiKey, Scope
from services.gateway.errors import ApiKeyInvalidError, ApiKeyMissingError, ScopeMissingError
from services.gateway.parts import Gateway
from services.gateway.policy import policy_of

API_PREFIX = "/v1/"
_SCHEME = "bearer"
_READING = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent the request. `error`: a key was shown, but it cannot be believed."""

    key: ApiKey | None = None
    error: LesionLensError | None = None


ANYBODY = Caller()


def caller() -> Caller:
    """Whoever sent the present request; looked up once."""
    if "caller" not in g:
        g.caller = _look_up(request)
    found: Caller = g.caller
    return found


def shows_a_key(request: Request) -> bool:
    """Whether the request claims to come from the holder of a key."""
    return request.path.startswith(API_PREFIX) and _token(request) is not None


def _token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == _SCHEME else None


def _look_up(request: Request) -> Caller:
    token = _token(request) if shows_a_key(request) else None
    if token is None:
        return ANYBODY
    parts: Gateway = current_app.extensions["lesionlens"]
    try:
        key = parts.keys.recognise(token)
    except LesionLensError as error:
        return Caller(error=error)
    return Caller(key=key) if key else Caller(error=ApiKeyInvalidError())


def require_access(app: Flask) -> None:
    """Wraps every view of the API: a key that is shown must be good, and good for this. Call it before the limits."""
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules() if rule.rule.startswith(API_PREFIX)}
    for endpoint in endpoints:
        view = cast("Callable[..., Any]", app.view_functions[endpoint])
        app.view_functions[endpoint] = cast("RouteCallable", _guarded(view))


def _guarded(view: Callable[..., Any]) -> Callable[..., Any]:
    policy = policy_of(view)
    needs_key = policy is not None and policy.auth == "key"

    @wraps(view)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        _check(caller(), needs_key=needs_key)
        return view(*arguments, **keywords)

    return checked


def _check(asking: Caller, *, needs_key: bool) -> None:
    if asking.error is not None:
        raise asking.error
    if asking.key is None:
        if needs_key:
            raise ApiKeyMissingError
        return
    needed = Scope.READ if request.method in _READING else Scope.WRITE
    if needed not in asking.key.scopes:
        raise ScopeMissingError(f"This key lacks the scope “{needed.value}”.")
