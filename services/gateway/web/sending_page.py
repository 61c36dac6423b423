"""The page that takes a photograph. It works without JavaScript."""

from __future__ import annotations

from flask import redirect, render_template, request, url_for
from flask_babel import format_decimal
from werkzeug.datastructures import FileStorage
from werkzeug.wrappers import Response as BaseResponse

from services.analysis.errors import LesionLensError
from services.analysis.results import OLDEST_YEARS, YOUNGEST_YEARS
from services.gateway.api.requests import MULTIPART_OVERHEAD_BYTES, age_years, limit_body
from services.gateway.errors import MalformedRequestError
from services.gateway.policy import UPLOADS, route_policy
from services.gateway.web.blueprint import READING, desk, pages
from services.gateway.web.evidence import read_evidence
from services.gateway.web.form_token import require_own_form
from services.gateway.web.problem_pages import words_of
from services.gateway.web.script_texts import start_texts
from services.gateway.web.wording import NO_AGE, NO_PHOTOGRAPH, ONE_PHOTOGRAPH, REFUSALS, Refusal


@pages.get("/")
@route_policy(auth="public", limit=READING)
def start() -> str:
    """The form, the framing guide and what to expect."""
    return _start_page(problem=None)


@pages.post("/")
@route_policy(auth="public", limit=UPLOADS)
def send() -> BaseResponse | tuple[str, int]:
    """Takes one photograph from the form, without any script."""
    limit_body(request, desk().settings.max_upload_bytes + MULTIPART_OVERHEAD_BYTES)
    require_own_form()
    photograph = _chosen_photograph()
    if isinstance(photograph, Refusal):
        return _start_page(photograph), 400
    try:
        told = age_years(request)
    except MalformedRequestError:
        return _start_page(NO_AGE), 400
    try:
        analysis_id = desk().take(
            photograph,
            force=bool(request.form.get("force")),
            store=not request.form.get("do_not_store"),
            age_years=told,
        )
    except LesionLensError as error:
        problem = REFUSALS.get(getattr(error, "code", "")) or words_of(error.status)
        return _start_page(problem), error.status
    return redirect(url_for("pages.analysis", analysis_id=analysis_id), 303)


def _chosen_photograph() -> bytes | Refusal:
    """The photograph in the form's two file fields (camera and gallery), or what is wrong with the choice."""
    files: list[FileStorage] = [file for file in request.files.getlist("image") if file.filename]
    if len(files) != 1:
        return ONE_PHOTOGRAPH if files else NO_PHOTOGRAPH
    content: bytes = files[0].read()
    return content


def _start_page(problem: Refusal | None) -> str:
    settings = desk().settings
    limit = settings.max_upload_bytes
    evidence = read_evidence(settings.models_dir)
    return render_template(
        "web/start.html",
        problem=problem,
        texts=start_texts(),
        max_upload_bytes=limit,
        max_upload_megabytes=format_decimal(limit // 1_000_000),
        offer_force=bool(request.values.get("force")),
        no_age=problem is NO_AGE,
        ask_age=evidence is not None and evidence.counts_age,
        ages=(YOUNGEST_YEARS, OLDEST_YEARS),
        told=request.form,
    )
