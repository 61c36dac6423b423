"""Which networks answer, and how well they were measured to work."""

from __future__ import annotations

from flask import Response

from services.gateway.answers import json_response
from services.gateway.api import problems
from services.gateway.api.blueprint import ApiBlueprint
from services.gateway.api.requests import gateway
from services.gateway.api.schemas import ModelsSchema
from services.gateway.policy import route_policy

blueprint = ApiBlueprint("models", __name__, url_prefix="/v1/models", description="The models in use.")


@blueprint.route("", methods=["GET"])
@blueprint.response(200, ModelsSchema)
@problems(503)
@route_policy(auth="public", limit="600/minute")
def describe() -> Response:
    """Versions, digests, operating points and metrics of the models"""
    response = json_response(gateway().models.describe())
    response.headers["Cache-Control"] = "public, max-age=60"
    return response
