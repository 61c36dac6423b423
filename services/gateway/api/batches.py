"""Many photographs at once, and one table of what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

from flask import Response, request
from werkzeug.datastructures import FileStorage

from services.analysis.errors import AnalysisNotFoundError
from services.analysis.record import Analysis
from services.analysis.results import OLDEST_YEARS, YOUNGEST_YEARS
from services.analysis.states import AnalysisState
from services.gateway.answers import answer_of, etag_of, json_response
from services.gateway.api import problems
from services.gateway.api.analyses import IDEMPOTENCY_KEY
from services.gateway.api.blueprint import ApiBlueprint
from services.gateway.api.requests import (
    MULTIPART_OVERHEAD_BYTES,
    TURNS,
    gateway,
    limit_body,
    parse_batch_id,
    refuse_when_full,
    upload_options,
)
from services.gateway.api.schemas import AcceptedBatchSchema, BatchSchema
from services.gateway.archives import MAX_BATCH_IMAGES, looks_like_zip, photographs_in
from services.gateway.batches import BatchUpload, batch_csv, progress, take_batch
from services.gateway.errors import BatchNotFoundError, ImageMissingError, MalformedRequestError
from services.gateway.parts import Gateway
from services.gateway.policy import POLLS, UPLOADS, route_policy
from services.gateway.rate_limits import count_photographs

blueprint = ApiBlueprint("batches", __name__, url_prefix="/v1/batches", description="Many photographs in one request.")

#: Seconds between two looks at a batch: it takes seconds, not tenths.
LOOK_AGAIN_S = 2

_FILES = {"type": "array", "items": {"type": "string", "contentMediaType": "application/octet-stream"}}
_AFTER_UPLOAD = {
    operation: {"operationId": operation, "parameters": {"batch_id": "$response.body#/id"}}
    for operation in ("batches_look_at_batch", "batches_batch_table")
}
_BATCH_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "additionalProperties": False,
                "properties": {
                    "images": {
                        **_FILES,
                        "description": f"At most {MAX_BATCH_IMAGES} photographs, or one zip archive of them.",
                    },
                    "force": {"type": "boolean", "default": False},
                    "store": {"type": "boolean", "default": True},
                    "tta": {"type": "integer", "enum": list(TURNS)},
                    "explain": {"type": "boolean", "default": False},
                    "age": {
                        "type": "integer",
                        "minimum": YOUNGEST_YEARS,
                        "maximum": OLDEST_YEARS,
                        "description": "Of the person in all of the photographs, in years.",
                    },
                },
            }
        }
    },
}


@blueprint.route("", methods=["POST"])
@blueprint.doc(
    parameters=[IDEMPOTENCY_KEY],
    requestBody=_BATCH_FORM,
    responses={HTTPStatus.ACCEPTED.value: {"links": _AFTER_UPLOAD}},
)
@blueprint.response(
    202,
    AcceptedBatchSchema,
    headers={"Location": {"schema": {"type": "string"}}, "Retry-After": {"schema": {"type": "integer"}}},
)
@problems(400, 408, 413, 422, 503)
@route_policy(auth="public", limit=UPLOADS)
def upload_batch() -> Response:
    """Analyse many photographs

    A file that cannot be used becomes a rejected item with its reason; the others go on. Positions follow the order of
    the parts, or of the archive. File names are told back once and not kept. A body may take two minutes, and longer
    as long as it keeps coming at 1 Mbit/s.

    For the limit by the minute a batch counts as its photographs. One that is larger than the limit takes all of a
    minute; one that finds too little left is refused as a whole (429) and takes nothing of it but one.
    """
    parts = gateway()
    limit_body(request, parts.settings.max_batch_bytes + MULTIPART_OVERHEAD_BYTES)
    refuse_when_full(request, parts)
    if request.mimetype != "multipart/form-data":
        raise ImageMissingError("The request is not multipart/form-data with files in the field “images”.")
    files: list[FileStorage] = request.files.getlist("images")
    if not files:
        raise ImageMissingError("The field “images” is missing, or is text instead of files.")
    options = upload_options(request)
    batch_id, analyses, names = take_batch(parts, _uploads(parts, files), options)
    # Of a batch that is sent once more, some analyses may have been deleted since.
    items = [
        {**answer_of(analysis), "position": analysis.batch_position, "name": name}
        for analysis, name in zip(analyses, names, strict=True)
        if analysis.state is not AnalysisState.DELETED
    ]
    own = f"/v1/batches/{batch_id}"
    body = {
        "id": str(batch_id),
        "total": len(items),
        "items": items,
        "links": {"self": own, "csv": f"{own}.csv"},
    }
    response = json_response(body, 202)
    response.headers["Location"] = own
    response.headers["Retry-After"] = str(LOOK_AGAIN_S)
    return response


@blueprint.route("/<string:batch_id>", methods=["GET"])
@blueprint.response(200, BatchSchema, headers={"ETag": {"schema": {"type": "string"}}})
@blueprint.alt_response(304, description="Nothing changed since the ETag.")
@problems(404, 503)
@route_policy(auth="capability", limit=POLLS)
def look_at_batch(batch_id: str) -> Response:
    """How far a batch is, and its analyses

    Analyses that were deleted since are left out.
    """
    analyses = _batch(batch_id)
    finished, counts = progress(analyses)
    own = f"/v1/batches/{batch_id}"
    body: dict[str, Any] = {
        "id": batch_id,
        "state": "finished" if finished == len(analyses) else "working",
        "total": len(analyses),
        "finished": finished,
        "counts": counts,
        "items": [answer_of(analysis) for analysis in analyses],
        "links": {"self": own, "csv": f"{own}.csv"},
    }
    response = json_response(body)
    response.set_etag(etag_of(body))
    response.headers["Cache-Control"] = "private, no-cache"
    if finished < len(analyses):
        response.headers["Retry-After"] = str(LOOK_AGAIN_S)
    response.make_conditional(request)
    return response


@blueprint.route("/<string:batch_id>.csv", methods=["GET"])
@blueprint.response(200, {"type": "string"}, content_type="text/csv")
@problems(404, 503)
@route_policy(auth="capability", limit="600/minute")
def batch_table(batch_id: str) -> Response:
    """A batch as a table"""
    response = Response(batch_csv(_batch(batch_id)), content_type="text/csv; charset=utf-8; header=present")
    response.headers["Content-Disposition"] = 'attachment; filename="lesionlens-batch.csv"'
    response.headers["Cache-Control"] = "private, no-store"
    return response


def _uploads(parts: Gateway, files: Sequence[FileStorage]) -> Iterator[BatchUpload]:
    """The photographs one after the other, so that only one of them is in memory unpacked."""
    if len(files) > MAX_BATCH_IMAGES:
        raise MalformedRequestError(f"There are {len(files)} files; at most {MAX_BATCH_IMAGES} are taken.")
    first = files[0].read()
    if len(files) == 1 and looks_like_zip(first):
        count, packed = photographs_in(first, parts.settings.max_upload_bytes, parts.settings.max_batch_bytes)
        count_photographs(count)
        for name, content in packed:
            yield BatchUpload(name, content)
        return
    count_photographs(len(files))
    yield BatchUpload(files[0].filename or "", first)
    for file in files[1:]:
        yield BatchUpload(file.filename or "", file.read())


def _batch(batch_id: str) -> list[Analysis]:
    try:
        analyses = gateway().record.batch(parse_batch_id(batch_id))
    except AnalysisNotFoundError as error:
        raise BatchNotFoundError from error
    return [analysis for analysis in analyses if analysis.state is not AnalysisState.DELETED]
