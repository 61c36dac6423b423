"""What a lesion was confirmed as: stored apart from the analysis, revocable."""

from __future__ import annotations

import marshmallow
from flask import Response, request

from services.analysis.record import Feedback
from services.gateway.answers import json_response, path_of
from services.gateway.api import problems
from services.gateway.api.blueprint import ApiBlueprint
from services.gateway.api.exports import finished
from services.gateway.api.requests import (
    gateway,
    json_object,
    limit_body,
    parse_analysis_id,
    parse_feedback_id,
)
from services.gateway.api.schemas import FeedbackRequestSchema, FeedbackSchema
from services.gateway.errors import FeedbackNotFoundError, InvalidFieldsError
from services.gateway.policy import route_policy

blueprint = ApiBlueprint("feedback", __name__, url_prefix="/v1/analyses", description="What a lesion turned out to be.")

#: Three short fields have about a hundred.
MAX_FEEDBACK_BYTES = 4_096

_BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/FeedbackRequest"}}},
}


@blueprint.route("/<string:analysis_id>/feedback", methods=["POST"])
@blueprint.doc(requestBody=_BODY)
@blueprint.response(201, FeedbackSchema, headers={"Location": {"schema": {"type": "string"}}})
@problems(400, 404, 409, 410, 413, 422, 503)
@route_policy(auth="capability", limit="60/minute")
def give(analysis_id: str) -> Response:
    """Say what the lesion was confirmed as

    With consent, photograph and diagnosis may be used for training, until the consent is revoked.
    """
    parts = gateway()
    limit_body(request, MAX_FEEDBACK_BYTES)
    analysis = finished(parts, parse_analysis_id(analysis_id))
    try:
        fields = FeedbackRequestSchema().load(json_object(request))
    except marshmallow.ValidationError as error:
        raise InvalidFieldsError("The feedback was not stored.", error.messages) from error
    feedback = Feedback(**fields)
    parts.record.add_feedback(analysis.id, feedback)
    location = f"{path_of(analysis)}/feedback/{feedback.id}"
    response = json_response({"id": str(feedback.id), "links": {"self": location}}, 201)
    response.headers["Location"] = location
    return response


@blueprint.route("/<string:analysis_id>/feedback/<string:feedback_id>", methods=["DELETE"])
@blueprint.response(204)
@problems(404, 503)
@route_policy(auth="capability", limit="60/minute")
def revoke(analysis_id: str, feedback_id: str) -> Response:
    """Revoke a feedback and its consent"""
    revoked = gateway().record.revoke_feedback(parse_analysis_id(analysis_id), parse_feedback_id(feedback_id))
    if not revoked:
        raise FeedbackNotFoundError
    return Response(status=204)
