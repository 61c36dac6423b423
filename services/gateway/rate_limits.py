"""Puts the limits that routes state (`policy.py`) into force, counted in Redis for all gateway processes together."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import structlog
from flask import Flask, Response, current_app, request
from flask.typing import RouteCallable
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from redis import RedisError

from services.analysis.doorbell import SOCKET_TIMEOUT_S
from services.analysis.settings import Settings
from services.gateway.access import caller, shows_a_key
from services.gateway.errors import TooManyRequestsError
from services.gateway.policy import POLLS, UNLIMITED, UPLOADS, policy_of

log = structlog.get_logger()

_EXTENSION = "lesionlens-limits"


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
    limiter = app.extensions[_EXTENSION] = _limiter(app, settings, asking_party, "lesionlens")
    # A limiter of its own: one limiter works out all limits of a view at once, and those of keys need the key.
    wrong_keys = _limiter(app, settings, get_remote_address, "lesionlens-keys").shared_limit(
        WRONG_KEYS, scope="keys", exempt_when=lambda: not shows_a_key(request), deduct_when=_is_wrong_key
    )
    for endpoint, view in app.view_functions.items():
        policy = policy_of(view)
        if policy is not None and limit_in_force(policy.limit, settings) is not None:
            of_caller = _limit_of_caller(policy.limit, settings)
            together = policy.limit == UPLOADS
            limit = limiter.shared_limit(of_caller, scope=UPLOADS) if together else limiter.limit(of_caller)
            app.view_functions[endpoint] = cast("RouteCallable", wrong_keys(limit(view)))


def count_photographs(count: int) -> None:
    """Counts the photographs of one upload, whose request was counted as the first of them. Call it before storing any.

    More than the caller's whole limit count as all of it: otherwise such a batch could never be sent.

    Raises:
        TooManyRequestsError: there are too many for what is left of this minute; none of them was counted.
    """
    limiter: Limiter = current_app.extensions[_EXTENSION]
    counted = limiter.current_limit
    if counted is None:
        return  # nobody could count the request either
    limit, whose = counted.limit, counted.request_args
    further = min(count, limit.amount) - 1
    if not further:
        return
    try:
        # `hit` counts also what it refuses, which would take the rest of the minute from the sender's next photograph.
        fits = counted.limiter.test(limit, *whose, cost=further)
        if fits and counted.limiter.hit(limit, *whose, cost=further):
            return
        left, ends_in_s = counted.remaining + 1, counted.reset_at - int(time.time())
    except RedisError:
        log.warning("photographs_not_counted", count=count, exc_info=True)
        return
    raise TooManyRequestsError(
        f"The batch has {count} photographs; {left} of {limit.amount} a minute are left.",
        min(max(1, ends_in_s), limit.get_expiry()),
    )


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
