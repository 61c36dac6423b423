"""The API under `/v1`, and what operators ask: one OpenAPI document is made from these modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import marshmallow
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from flask_smorest import Api

from services.gateway.api.blueprint import ApiBlueprint, View
from services.gateway.problems import PROBLEM_JSON

API_TITLE = "LesionLens"
API_VERSION = "1"
OPENAPI_VERSION = "3.1.0"

DESCRIPTION = """\
How likely a photographed skin lesion is malignant: a calibrated probability, a risk band with an honest “unsure”, and
what to do next. Research software, not a medical device: no answer is a diagnosis or an all-clear.

An upload is answered at once with `202` and the address of its analysis, which is then asked for until its state is
`done`, `rejected` or `failed`. Whoever knows the id of an analysis may read and delete it: keep it to yourself.
With an API key (`Authorization: Bearer ll_…`) the analyses are the key's: nobody else finds them.
Every error is `application/problem+json` (RFC 9457); its `type` leads to a page that explains it.
"""

_PROBLEM_WORDS = {
    400: "The request is malformed.",
    401: "The API key is missing or not valid.",
    403: "The API key is not for this.",
    404: "There is no such thing.",
    408: "The upload took too long.",
    409: "Not possible in the present state.",
    410: "It was deleted.",
    413: "Too large.",
    415: "Not a kind of file that is taken.",
    422: "Understood, but cannot be used.",
    429: "Too many requests.",
    500: "Something went wrong on our side.",
    503: "A part of the service does not answer.",
}

_API_KEY = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "ll_…",
    "description": "Made by the operator. Scopes: `analyses:read` for GET, `analyses:write` for everything else.",
}

#: What any route may answer with.
_ALWAYS = (429, 500)


class ProblemSchema(marshmallow.Schema):
    """An error (RFC 9457)."""

    type = marshmallow.fields.String(
        required=True, metadata={"description": "Stable; an address that explains the problem."}
    )
    title = marshmallow.fields.String(required=True)
    status = marshmallow.fields.Integer(required=True)
    detail = marshmallow.fields.String(required=True, metadata={"description": "What is wrong here."})
    advice = marshmallow.fields.String(required=True, metadata={"description": "What to do about it."})
    trace_id = marshmallow.fields.String(
        required=True, metadata={"description": "Names the request in the operator's log."}
    )
    code = marshmallow.fields.String(metadata={"description": "Why a photograph is refused, for programs."})
    errors = marshmallow.fields.Raw(metadata={"description": "Wrong fields and what is wrong with each."})


class LesionLensApi(Api):  # type: ignore[misc]
    """flask-smorest's document, without its own way of wording errors (`problems.py` has one for all)."""

    DEFAULT_ERROR_RESPONSE_NAME = None

    def _register_error_handlers(self) -> None:
        """Nothing: `problems.register_problems` answers for the whole application."""


def problems(*statuses: int) -> Callable[[View], View]:
    """States with which errors a route may answer; 429 and 500 go without saying."""
    return ApiBlueprint.doc(responses=problem_responses(*statuses, *_ALWAYS))


def problem_responses(*statuses: int) -> dict[str, Any]:
    """The errors as they stand in the document."""
    return {
        str(status): {
            "description": _PROBLEM_WORDS[status],
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted(set(statuses))
    }


def register_api(app: Flask) -> LesionLensApi:
    """Adds all routes of the API to the application, and makes its OpenAPI document."""
    from services.gateway.api import (
        analyses,
        batches,
        exports,
        feedback,
        models,
        operations,
        reference,
        webhooks,
    )
    from services.gateway.api.schemas import FeedbackRequestSchema, WebhookRequestSchema

    app.config.update(API_TITLE=API_TITLE, API_VERSION=API_VERSION, OPENAPI_VERSION=OPENAPI_VERSION)
    api = LesionLensApi(
        app,
        spec_kwargs={
            "info": {
                "description": DESCRIPTION,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "marshmallow_plugin": MarshmallowPlugin(schema_name_resolver=_schema_name),
        },
    )
    api.spec.components.schema("Problem", schema=ProblemSchema)
    api.spec.components.security_scheme("apiKey", _API_KEY)
    api.spec.components.schema("FeedbackRequest", schema=FeedbackRequestSchema)
    api.spec.components.schema("WebhookRequest", schema=WebhookRequestSchema)
    for module in (analyses, exports, feedback, batches, webhooks, models, operations, reference):
        api.register_blueprint(module.blueprint)
    return api


def _schema_name(schema: Any) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__.removesuffix("Schema")
