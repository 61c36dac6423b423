"""What operators and their machines ask: alive, ready, counted."""

from __future__ import annotations

from flask import Response

from services.gateway.answers import json_response
from services.gateway.api import problems
from services.gateway.api.blueprint import ApiBlueprint
from services.gateway.api.requests import gateway
from services.gateway.api.schemas import HealthSchema, ReadinessSchema
from services.gateway.policy import UNLIMITED, route_policy

blueprint = ApiBlueprint("operations", __name__, description="For operators.")

EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@blueprint.route("/healthz", methods=["GET"])
@blueprint.response(200, HealthSchema)
@problems()
@route_policy(auth="operator", limit=UNLIMITED)
def healthz() -> Response:
    """Alive

    Says nothing about the parts behind: restarting this process would not bring them back.
    """
    return json_response({"status": "alive"})


@blueprint.route("/readyz", methods=["GET"])
@blueprint.response(200, ReadinessSchema, description="An upload accepted now is answered.")
@blueprint.alt_response(503, schema=ReadinessSchema, description="A part is missing.")
@problems()
@route_policy(auth="operator", limit=UNLIMITED)
def readyz() -> Response:
    """Ready

    Asks database, queue, image store and each network, at most once a second.
    """
    answer = gateway().readiness.ask()
    status = "ready" if answer.ready else "not ready"
    return json_response({"status": status, "parts": dict(answer.parts)}, 200 if answer.ready else 503)


@blueprint.route("/metrics", methods=["GET"])
@blueprint.response(200, {"type": "string"}, content_type="text/plain", description="Prometheus' text format.")
@problems()
@route_policy(auth="operator", limit=UNLIMITED)
def metrics() -> Response:
    """Metrics for Prometheus"""
    return Response(gateway().metrics.exposition(), content_type=EXPOSITION_TYPE)
