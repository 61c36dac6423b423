"""Puts the limits that routes state (`policy.py`) into force, counted in Redis for all gateway processes together."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from flask import Flask, Response, request
from flask.typing import RouteCallable
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

from services.analysis.doorbell import SOCKET_TIMEOUT_S
from services.analysis.settings import Settings
from services.gateway.access import caller, shows_a_key
from services.gateway.policy import POLLS, UNLIMITED, UPLOADS, policy_of


def limit_in_force(limit: str, settings: Settings) -> str | None:
    """The limit in Flask-Limiter's words; None where there is none."""
    if limit == UNLIMITED:
        return None
    by_setting = {UPLOADS: settings.uploads_per_minute, POLLS: settings.polls_per_minute}
    return f"{by_setting[limit]}/minute" if limit in by_setting else limit


#: Wrong API keys one address may show: enough for a program that was given the wrong one and tries again. Beyond that
#: none is looked up, so that whoever tries keys does not keep the database busy.
WRONG_KEYS = "60/minute"


def asking_party() -> str:
    """Whose requests are counted together: those with one API key, or else those from one address."""
    key = caller().key
    return f"key:{key.id}" if key else get_remote_address()


def _limit_of_caller(limit: str, settings: Settings) -> Callable[[], str]:
    def of_caller() -> str:
        key = caller().key
        if limit == UPLOADS and key is not None and key.uploads_per_minute is not None:
            return f"{key.uploads_per_minute}/minute"
        return limit_in_force(limit, settings) or ""

    return of_caller


def _is_wrong_key(response: Response) -> bool:
    return response.status_code == HTTPStatus.UNAUTHORIZED


def enforce_limits(app: Flask, settings: Settings) -> None:
    """Wraps every view that stated a limit. Call it once all routes are registered.

    Fails open: without Redis each process counts for itself, because a person who cannot upload for want of a counter
    is worse off than a server that is asked too often for a while.
    """
    limiter = _limiter(app, settings, asking_party, "lesionlens")
    # A limiter of its own: one limiter works out all limits of a view at once, and those of keys need the key.
    wrong_keys = _limiter(app, settings, get_remote_address, "lesionlens-keys").shared_limit(
        WRONG_KEYS, scope="keys", exempt_when=lambda: not shows_a_key(request), deduct_when=_is_wrong_key
    )
    for endpoint, view in app.view_functions.items():
        policy = policy_of(view)
        if policy is not None and limit_in_force(policy.limit, settings) is not None:
            limited = limiter.limit(_limit_of_caller(policy.limit, settings))(view)
            app.view_functions[endpoint] = cast("RouteCallable", wrong_keys(limited))


def _limiter(app: Flask, settings: Settings, counted: Callable[[], str], prefix: str) -> Limiter:
    patience: dict[str, str | int] = {
        "socket_timeout": int(SOCKET_TIMEOUT_S),
        "socket_connect_timeout": int(SOCKET_TIMEOUT_S),
    }
    return Limiter(
        counted,
        app=app,
        storage_uri=settings.redis_url or "memory://",
        storage_options=patience if settings.redis_url else {},
        strategy="fixed-window",
        headers_enabled=False,
        in_memory_fallback_enabled=True,
        swallow_errors=True,
        key_prefix=prefix,
    )
