"""The composition root of the gateway: puts settings, parts, routes and pages together. Nothing connects here."""

from __future__ import annotations

import importlib.util
import secrets
import time
from contextlib import ExitStack

import structlog
from flask import Flask, Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from services.analysis import tracing
from services.analysis.settings import Settings
from services.gateway.access import require_access
from services.gateway.api import register_api
from services.gateway.auditing import register_audit
from services.gateway.cross_origin import register_cross_origin
from services.gateway.parts import Gateway, make_parts
from services.gateway.problems import register_problems, trace_id
from services.gateway.rate_limits import enforce_limits
from services.gateway.security import register_security

log = structlog.get_logger()

#: Routes whose every call would drown the log.
_QUIET = frozenset({"operations.healthz", "operations.readyz", "operations.metrics", "analyses.look"})

#: Methods that are told apart in metrics and traces.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

#: Largest text field and most parts of a form (Flask's own defaults, stated because uploads depend on them).
MAX_FORM_MEMORY_BYTES = 500_000
MAX_FORM_PARTS = 1_000


def create_app(settings: Settings, parts: Gateway | None = None) -> Flask:
    """The Flask application. Call it in the process that will serve it, after any fork."""
    app = Flask("services.gateway", static_folder=None)
    app.config.update(
        SECRET_KEY=settings.secret_key or secrets.token_hex(32),
        MAX_CONTENT_LENGTH=settings.max_upload_bytes,
        MAX_FORM_MEMORY_SIZE=MAX_FORM_MEMORY_BYTES,
        MAX_FORM_PARTS=MAX_FORM_PARTS,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_HTTPONLY=True,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    gateway = parts or make_parts(settings)
    app.extensions["lesionlens"] = gateway
    register_problems(app)
    register_security(app)
    _observe(app, gateway)
    register_audit(app, gateway)
    app.extensions["lesionlens-api"] = register_api(app)
    _register_pages(app)
    require_access(app)
    enforce_limits(app, settings)
    register_cross_origin(app, settings.allowed_origins())
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    return app


def _register_pages(app: Flask) -> None:
    """The pages for people; an installation may leave them out and keep the API."""
    spec = importlib.util.find_spec("services.gateway.web")
    if spec is not None and spec.origin is not None:
        from services.gateway.web import register_pages

        register_pages(app)


def _observe(app: Flask, gateway: Gateway) -> None:
    """One log line and one count for each request: by route, never by path, because a path contains an id."""

    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()
        if request.blueprint == "operations":
            return  # whoever asks every few seconds whether all is well is no trace
        g.trace = ExitStack()
        route = request.url_rule.rule if request.url_rule else "unknown"
        g.span = g.trace.enter_context(
            tracing.entered(f"{_method()} {route}", "server", request.headers.get("traceparent"))
        )
        g.trace_id = tracing.trace_id()

    @app.after_request
    def end(response: Response) -> Response:
        took_s = time.perf_counter() - g.get("began", time.perf_counter())
        route = request.url_rule.rule if request.url_rule else "unknown"
        gateway.metrics.requests.labels(_method(), route, response.status_code).inc()
        gateway.metrics.durations.labels(_method(), route).observe(took_s)
        quiet = request.endpoint in _QUIET and (response.status_code < 400 or response.status_code == 503)
        (log.debug if quiet else log.info)(
            "request",
            method=request.method,
            route=route,
            status=response.status_code,
            ms=round(took_s * 1000, 1),
        )
        response.headers.setdefault("X-Trace-Id", trace_id())
        if (span := g.get("span")) is not None:
            span.set_attribute("http.response.status_code", response.status_code)
        return response

    @app.teardown_request
    def leave(_error: BaseException | None = None) -> None:
        if (trace := g.pop("trace", None)) is not None:
            trace.close()


def _method() -> str:
    """The request's method, for a label. Each label is kept for ever, and senders may invent methods."""
    return request.method if request.method in _METHODS else "other"
