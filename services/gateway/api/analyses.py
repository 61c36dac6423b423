"""Upload a photograph, ask what became of it, delete it."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Any

from flask import Response, request

from services.analysis.errors import AnalysisGoneError
from services.analysis.record import Analysis
from services.analysis.results import OLDEST_YEARS, YOUNGEST_YEARS
from services.analysis.states import AnalysisState
from services.gateway.answers import answer_of, etag_of, json_response, path_of
from services.gateway.api import problems
from services.gateway.api.blueprint import ApiBlueprint
from services.gateway.api.requests import (
    DEFAULT_PAGE_ITEMS,
    MAX_PAGE_ITEMS,
    MULTIPART_OVERHEAD_BYTES,
    TURNS,
    gateway,
    image_field,
    limit_body,
    page_limit,
    parse_analysis_id,
    refuse_unknown,
    refuse_when_full,
    upload_options,
)
from services.gateway.api.schemas import AnalysisPageSchema, AnalysisSchema
from services.gateway.cursor import cursor_after, place_of
from services.gateway.parts import Gateway
from services.gateway.policy import POLLS, UPLOADS, route_policy
from services.gateway.uploads import take
from services.gateway.waiting import preferred_wait_s, say_waited

blueprint = ApiBlueprint("analyses", __name__, url_prefix="/v1/analyses", description="One photograph, one analysis.")

#: Seconds between two polls that a client is advised to keep; a median analysis is done within the first.
POLL_AGAIN_S = 1

PREFER = {
    "in": "header",
    "name": "Prefer",
    "schema": {"type": "string"},
    "example": "wait=10",
    "description": "`wait=n` (RFC 7240): answer when something changed, after n seconds at the latest (at most 25).",
}
IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same key with the same upload gives the same analysis; with another upload 422.",
}
_STRING_HEADER = {"schema": {"type": "string"}}
#: What the id in the answer is good for.
_AFTER_UPLOAD = {
    operation: {"operationId": operation, "parameters": {"analysis_id": "$response.body#/id"}}
    for operation in (
        "analyses_look",
        "analyses_delete",
        "analyses_cancel",
        "exports_attention",
        "exports_report",
        "exports_fhir",
        "exports_image",
        "feedback_give",
    )
}
_UPLOAD_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "additionalProperties": False,
                "properties": {
                    "image": {
                        "type": "string",
                        "contentMediaType": "application/octet-stream",
                        "description": "JPEG, PNG, WebP, HEIC, AVIF, BMP or TIFF; at most 15 MB, 60 megapixels.",
                    },
                    "force": {
                        "type": "boolean",
                        "default": False,
                        "description": "Answer in spite of soft quality reasons.",
                    },
                    "store": {
                        "type": "boolean",
                        "default": True,
                        "description": "False: delete the photograph as soon as its analysis ended.",
                    },
                    "tta": {
                        "type": "integer",
                        "enum": list(TURNS),
                        "description": "Sides to look from (test-time augmentation); the models' own by default.",
                    },
                    "explain": {
                        "type": "boolean",
                        "default": False,
                        "description": "Tell also what each network contributed, and where each of them looked.",
                    },
                    "age": {
                        "type": "integer",
                        "minimum": YOUNGEST_YEARS,
                        "maximum": OLDEST_YEARS,
                        "description": "Of the person, in years. The probability then counts it in, if these models"
                        " have learnt what it means (`age` in /v1/models).",
                    },
                },
            }
        }
    },
}


@blueprint.route("", methods=["POST"])
@blueprint.doc(
    parameters=[PREFER, IDEMPOTENCY_KEY],
    requestBody=_UPLOAD_FORM,
    responses={HTTPStatus.ACCEPTED.value: {"links": _AFTER_UPLOAD}},
)
@blueprint.response(
    202,
    AnalysisSchema,
    description="Accepted. Ask for the address in Location.",
    headers={"Location": _STRING_HEADER, "Retry-After": {"schema": {"type": "integer"}}},
)
@blueprint.alt_response(200, schema=AnalysisSchema, description="Finished within the preferred wait.", success=True)
@problems(400, 408, 413, 415, 422, 503)
@route_policy(auth="public", limit=UPLOADS)
def upload() -> Response:
    """Analyse a photograph

    Location and other metadata in the file are removed before anything is stored.
    """
    parts = gateway()
    limit_body(request, parts.settings.max_upload_bytes + MULTIPART_OVERHEAD_BYTES)
    refuse_when_full(request, parts)
    image = image_field(request)
    accepted = take(parts, image, upload_options(request))
    wait_s = preferred_wait_s(request)
    analysis, waited = parts.changes.wait_until(
        str(accepted.id), lambda: parts.record.find(accepted.id), _has_ended, wait_s, only_its_end=True, seen=accepted
    )
    response = json_response(_answer(parts, analysis), 200 if analysis.state.terminal else 202)
    response.headers["Location"] = path_of(analysis)
    if not analysis.state.terminal:
        response.headers["Retry-After"] = str(POLL_AGAIN_S)
    return say_waited(response, wait_s, waited=waited)


@blueprint.route("", methods=["GET"])
@blueprint.doc(
    security=[{"apiKey": []}],
    parameters=[
        {
            "in": "query",
            "name": "limit",
            "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_ITEMS, "default": DEFAULT_PAGE_ITEMS},
        },
        {
            "in": "query",
            "name": "cursor",
            "schema": {"type": "string"},
            "description": "Where the page before ended; stands in its `links.next`.",
        },
    ],
)
@blueprint.response(200, AnalysisPageSchema)
@problems(400, 503)
@route_policy(auth="key", limit="600/minute")
def list_own() -> Response:
    """The analyses of an API key, the newest first"""
    refuse_unknown(request.args, {"limit", "cursor"})
    limit, cursor = page_limit(request), request.args.get("cursor")
    # One more than asked for tells whether there is another page.
    analyses = gateway().record.own(limit + 1, place_of(cursor) if cursor is not None else None)
    page, links = analyses[:limit], {"self": request.full_path.rstrip("?")}
    if len(analyses) > limit:
        links["next"] = f"{blueprint.url_prefix}?limit={limit}&cursor={cursor_after(page[-1])}"
    return json_response({"items": [answer_of(analysis) for analysis in page], "links": links})


@blueprint.route("/<string:analysis_id>", methods=["GET"])
@blueprint.doc(
    parameters=[
        PREFER,
        {
            "in": "header",
            "name": "If-None-Match",
            "schema": {"type": "string"},
            "description": "An ETag: the same answer is not sent again (304); with `Prefer: wait`, wait for another.",
        },
    ]
)
@blueprint.response(200, AnalysisSchema, headers={"ETag": _STRING_HEADER})
@blueprint.alt_response(304, description="Nothing changed since the ETag.")
@problems(404, 410, 503)
@route_policy(auth="capability", limit=POLLS)
def look(analysis_id: str) -> Response:
    """What became of a photograph"""
    parts = gateway()
    parsed = parse_analysis_id(analysis_id)
    wait_s = preferred_wait_s(request)
    analysis, waited = parts.changes.wait_until(
        str(parsed),
        lambda: parts.record.find(parsed),
        lambda analysis: _is_news(parts, analysis),
        wait_s,
        only_its_end=not request.if_none_match,
    )
    body = _answer(parts, analysis)
    response = json_response(body)
    response.set_etag(etag_of(body))
    response.headers["Cache-Control"] = "private, no-cache"
    if not analysis.state.terminal:
        response.headers["Retry-After"] = str(POLL_AGAIN_S)
    say_waited(response, wait_s, waited=waited)
    response.make_conditional(request)
    return response


@blueprint.route("/<string:analysis_id>", methods=["DELETE"])
@blueprint.response(204)
@problems(404, 503)
@route_policy(auth="capability", limit="300/minute")
def delete(analysis_id: str) -> Response:
    """Delete a photograph and all that was found out about it

    An unfinished analysis is cancelled. Afterwards its address answers 410.
    """
    parts = gateway()
    remove(parts, parse_analysis_id(analysis_id))
    return Response(status=204)


@blueprint.route("/<string:analysis_id>/cancel", methods=["POST"])
@blueprint.response(200, AnalysisSchema)
@problems(404, 409, 410, 503)
@route_policy(auth="capability", limit="300/minute")
def cancel(analysis_id: str) -> Response:
    """Stop an analysis that is not finished

    Its photograph is deleted, and it ends as `failed` with the reason `cancelled`. One that has ended by itself stays
    as it is (409).
    """
    parts = gateway()
    return json_response(_answer(parts, stop(parts, parse_analysis_id(analysis_id))))


def stop(parts: Gateway, analysis_id: uuid.UUID) -> Analysis:
    """Ends the analysis in the record, then deletes its blobs: the sweeper would do so, but only after its retention.

    Raises:
        AnalysisNotFoundError, AnalysisGoneError, AnalysisFinishedError: there is nothing to stop.
    """
    parts.record.cancel(analysis_id)
    parts.blobs.delete(analysis_id)
    parts.record.images_deleted(analysis_id)
    return parts.record.find(analysis_id)


def remove(parts: Gateway, analysis_id: uuid.UUID) -> None:
    """Deletes the blobs, then empties the row, so that a crash in between leaves no image. This is idempotent.

    Raises:
        AnalysisNotFoundError: there never was such an analysis.
    """
    try:
        parts.record.find(analysis_id)
    except AnalysisGoneError:
        return
    parts.blobs.delete(analysis_id)
    parts.record.delete(analysis_id)
    # Once more: pixels that a worker stored in between. From here on it finds its lease lost and takes back its own.
    parts.blobs.delete(analysis_id)


def _answer(parts: Gateway, analysis: Analysis) -> dict[str, Any]:
    queued = analysis.state is AnalysisState.QUEUED
    return answer_of(analysis, parts.record.waiting_ahead(analysis) if queued else None)


def _has_ended(analysis: Analysis) -> bool:
    return analysis.state.terminal


def _is_news(parts: Gateway, analysis: Analysis) -> bool:
    """With an ETag, any other answer than that; without, the end."""
    if analysis.state.terminal or not request.if_none_match:
        return analysis.state.terminal
    return not request.if_none_match.contains_weak(etag_of(_answer(parts, analysis)))
