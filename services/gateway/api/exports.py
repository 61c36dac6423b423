"""A finished analysis in other forms: attention map, report, FHIR; and the photograph itself."""

from __future__ import annotations

import uuid

from flask import Response, current_app

from services.analysis.errors import BlobMissingError
from services.analysis.record import Analysis
from services.analysis.results import Result
from services.gateway.answers import json_response
from services.gateway.api import problems
from services.gateway.api.blueprint import ApiBlueprint
from services.gateway.api.requests import gateway, parse_analysis_id
from services.gateway.api.schemas import BundleSchema
from services.gateway.attention import attention_png, frame_in
from services.gateway.confined import media_type
from services.gateway.errors import ImageGoneError, NoResultError, NotFinishedError
from services.gateway.fhir import fhir_bundle
from services.gateway.parts import Gateway
from services.gateway.policy import route_policy
from services.gateway.report_words import REPORT_WORDS, english_words

blueprint = ApiBlueprint(
    "exports", __name__, url_prefix="/v1/analyses", description="A finished analysis in other forms."
)

#: For its owner, on this screen: no cache in between keeps a picture of somebody's skin.
_PRIVATE = {"Cache-Control": "private, no-store"}
_LANGUAGE = {
    "in": "header",
    "name": "Accept-Language",
    "schema": {"type": "string"},
    "example": "de",
    "description": "`en`, `de`, `es` or `fr`.",
}
_BINARY = {"type": "string", "contentMediaType": "application/octet-stream"}


def finished(parts: Gateway, analysis_id: uuid.UUID) -> Analysis:
    """The analysis, once it has a result.

    Raises:
        NotFinishedError, NoResultError: it has none yet, or never will.
    """
    analysis = parts.record.find(analysis_id)
    if analysis.result is None:
        if analysis.state.terminal:
            raise NoResultError(f"The analysis is {analysis.state.value}.")
        raise NotFinishedError(f"The analysis is {analysis.state.value}.")
    return analysis


def _finished_with_result(analysis_id: str) -> tuple[Analysis, Result]:
    analysis = finished(gateway(), parse_analysis_id(analysis_id))
    if analysis.result is None:  # `finished` has made sure; this tells the type checker
        raise NoResultError
    return analysis, analysis.result


@blueprint.route("/<string:analysis_id>/attention.png", methods=["GET"])
@blueprint.response(200, _BINARY, content_type="image/png")
@problems(404, 409, 410, 503)
@route_policy(auth="capability", limit="600/minute")
def attention(analysis_id: str) -> Response:
    """Where the networks looked

    A transparent picture, 224 × 224, to lay over the centre square of the photograph.
    """
    analysis, result = _finished_with_result(analysis_id)
    picture = attention_png(result.attention, frame_in(analysis.preparation))
    return Response(picture, mimetype="image/png", headers=_PRIVATE)


@blueprint.route("/<string:analysis_id>/report.pdf", methods=["GET"])
@blueprint.doc(parameters=[_LANGUAGE])
@blueprint.response(
    200, _BINARY, content_type="application/pdf", headers={"Content-Language": {"schema": {"type": "string"}}}
)
@problems(404, 409, 410, 503)
@route_policy(auth="capability", limit="120/minute")
def report(analysis_id: str) -> Response:
    """One page for a doctor

    In English, German, Spanish or French, as `Accept-Language` asks for.
    """
    # Here, not above: the PDF library takes a tenth of a second to load, and most processes never need it.
    from services.gateway.report import report_pdf

    analysis, result = _finished_with_result(analysis_id)
    words = current_app.extensions.get(REPORT_WORDS, english_words)(analysis, result)
    pdf = report_pdf(analysis, result, _photograph(gateway(), analysis), words)
    headers = {
        **_PRIVATE,
        "Content-Language": words.language,
        "Content-Disposition": 'inline; filename="lesionlens-report.pdf"',
    }
    return Response(pdf, mimetype="application/pdf", headers=headers)


@blueprint.route("/<string:analysis_id>/fhir", methods=["GET"])
@blueprint.response(200, BundleSchema, content_type="application/fhir+json")
@problems(404, 409, 410, 503)
@route_policy(auth="capability", limit="600/minute")
def fhir(analysis_id: str) -> Response:
    """A FHIR R4 Bundle: DiagnosticReport and Observations"""
    analysis, result = _finished_with_result(analysis_id)
    response = json_response(fhir_bundle(analysis, result))
    response.content_type = "application/fhir+json"
    return response


@blueprint.route("/<string:analysis_id>/image", methods=["GET"])
@blueprint.response(200, _BINARY, content_type="image/*")
@problems(404, 410, 503)
@route_policy(auth="capability", limit="600/minute")
def image(analysis_id: str) -> Response:
    """The photograph as it is stored: without metadata"""
    parts = gateway()
    analysis = parts.record.find(parse_analysis_id(analysis_id))
    photograph = _photograph(parts, analysis)
    kind = None if photograph is None else media_type(photograph)
    if photograph is None or kind is None:
        raise ImageGoneError
    return Response(photograph, mimetype=kind, headers=_PRIVATE)


def _photograph(parts: Gateway, analysis: Analysis) -> bytes | None:
    if analysis.images_deleted_at is not None:
        return None
    try:
        return parts.blobs.get_upload(analysis.id)
    except BlobMissingError:
        return None
