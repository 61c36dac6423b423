"""The API's own description: as OpenAPI, as a page to read, and the pages that problem types lead to."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

from flask import Response, current_app, render_template
from markupsafe import Markup, escape
from werkzeug.exceptions import NotFound

from services.gateway.access import API_PREFIX
from services.gateway.api import problem_responses, problems
from services.gateway.api.blueprint import ApiBlueprint
from services.gateway.policy import route_policy
from services.gateway.problems import problem_types

blueprint = ApiBlueprint("reference", __name__, description="This description.", template_folder="templates")

_HTML = {"type": "string", "contentMediaType": "text/html"}
_CODE = re.compile(r"`([^`]+)`")
_METHODS = ("get", "post", "put", "patch", "delete")


@blueprint.route("/openapi.json", methods=["GET"])
@blueprint.response(200, {"type": "object"}, description="OpenAPI 3.1.")
@problems()
@route_policy(auth="public", limit="600/minute")
def openapi() -> Response:
    """This API in OpenAPI 3.1"""
    return Response(json.dumps(document(), ensure_ascii=False), mimetype="application/json")


@blueprint.route("/docs", methods=["GET"])
@blueprint.response(200, _HTML, content_type="text/html")
@problems()
@route_policy(auth="public", limit="600/minute")
def docs() -> Response:
    """This API as a page"""
    spec = document()
    return Response(
        render_template("reference.html", spec=spec, groups=_grouped(spec), problems=problem_types().values()),
        mimetype="text/html",
    )


@blueprint.route("/docs/reference.css", methods=["GET"])
@blueprint.response(200, {"type": "string"}, content_type="text/css")
@problems()
@route_policy(auth="public", limit="600/minute")
def stylesheet() -> Response:
    """The style of these pages"""
    response = Response(render_template("reference.css"), mimetype="text/css")
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response


@blueprint.route("/problems/<string:slug>", methods=["GET"])
@blueprint.response(200, _HTML, content_type="text/html")
@problems(404)
@route_policy(auth="public", limit="600/minute")
def problem(slug: str) -> Response:
    """What a problem type means"""
    kind = problem_types().get(slug)
    if kind is None:
        raise NotFound
    return Response(render_template("problem.html", kind=kind), mimetype="text/html")


def code_spans(text: str) -> Markup:
    """Markdown's `code` as HTML; the rest is escaped."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped on this line # nosec B704


blueprint.add_app_template_filter(code_spans)


def document() -> dict[str, Any]:
    """The OpenAPI document of the running application."""
    spec: dict[str, Any] = current_app.extensions["lesionlens-api"].spec.to_dict()
    for path, item in spec["paths"].items():
        for operation in (item[method] for method in _METHODS if method in item and path.startswith(API_PREFIX)):
            # With a key or without, unless the operation says otherwise.
            operation.setdefault("security", [{}, {"apiKey": []}])
            operation["responses"] = dict(sorted({**problem_responses(401, 403), **operation["responses"]}.items()))
    kinds = (kind for kind in problem_types().values() if kind.status != HTTPStatus.INTERNAL_SERVER_ERROR)
    spec["x-problem-types"] = [
        {"type": f"/problems/{kind.slug}", "status": kind.status, "title": kind.title} for kind in kinds
    ]
    return spec


def _grouped(spec: dict[str, Any]) -> list[tuple[dict[str, Any], list[tuple[str, str, dict[str, Any]]]]]:
    """Operations by tag, in the order of the document: tag, then method, path and operation."""
    return [
        (
            tag,
            [
                (method.upper(), path, operations[method])
                for path, operations in spec["paths"].items()
                for method in _METHODS
                if method in operations and tag["name"] in operations[method]["tags"]
            ],
        )
        for tag in spec["tags"]
    ]
