"""The pages: one form, one address per answer, and a few to read. Every one works without JavaScript."""

from __future__ import annotations

import contextlib
import datetime as dt
import uuid

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_babel import format_date, format_decimal, format_percent
from flask_babel import gettext as _
from werkzeug.datastructures import FileStorage
from werkzeug.wrappers import Response as BaseResponse

from services.analysis.errors import AnalysisFinishedError, BlobMissingError, LesionLensError
from services.analysis.record import CANCELLED, Analysis, Feedback
from services.analysis.states import AnalysisState
from services.gateway.api.requests import MULTIPART_OVERHEAD_BYTES, limit_body
from services.gateway.policy import POLLS, UPLOADS, route_policy
from services.gateway.web.answer import arrange, concern_codes
from services.gateway.web.assets import IMMUTABLE_AGE_S, all_assets, asset_version
from services.gateway.web.desk import Desk
from services.gateway.web.evidence import Evidence, Ranking, read_evidence
from services.gateway.web.form_token import form_token, hand_out_token, require_own_form
from services.gateway.web.languages import LANGUAGES, chosen_language, label_language
from services.gateway.web.problem_pages import words_of
from services.gateway.web.reminder import calendar_file
from services.gateway.web.script_texts import analysis_texts, history_texts, start_texts
from services.gateway.web.wording import (
    ABCDE,
    ALWAYS_GO,
    DISCLAIMER,
    FAILED_SENTENCE,
    FEEDBACK_DIAGNOSES,
    FEEDBACK_SOURCES,
    NO_PHOTOGRAPH,
    ONE_PHOTOGRAPH,
    REFUSALS,
    STAGES,
    UNKNOWN_REFUSAL_HEADING,
    Refusal,
)

#: Where the application keeps the function that gives the pages their desk.
DESK = "lesionlens-desk"

#: Reasons that a person may overrule; the others leave nothing to look at.
SOFT_REASONS = frozenset(
    {
        "blank",
        "too_dark",
        "too_bright",
        "too_blurred",
        "glare",
        "no_lesion_found",
        "off_centre",
        "cut_off",
        "not_a_lesion",
    }
)

#: Seconds between two looks of a page without JavaScript: an analysis takes about one.
REFRESH_S = 2

#: Weeks until a reminder, at most: one year.
MAX_REMINDER_WEEKS = 52

#: Nothing foreign, nothing inline, and not even `data:` or `blob:`: previews are drawn on a canvas.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

#: Ten pages a second for one address is more than a person reads and enough for a family behind one router.
READING = "600/minute"


pages = Blueprint("pages", __name__, template_folder="templates")


def desk() -> Desk:
    """The desk of the application that answers the present request."""
    found: Desk = current_app.extensions[DESK]()
    return found


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
        analysis_id = desk().take(
            photograph,
            force=bool(request.form.get("force")),
            store=not request.form.get("do_not_store"),
        )
    except LesionLensError as error:
        problem = REFUSALS.get(getattr(error, "code", "")) or words_of(error.status)
        return _start_page(problem), error.status
    return redirect(url_for("pages.analysis", analysis_id=analysis_id), 303)


@pages.get("/analyses/<uuid:analysis_id>")
@route_policy(auth="capability", limit=POLLS)
def analysis(analysis_id: uuid.UUID) -> str:
    """Progress, answer, refusal or failure: whatever the analysis is at.

    The answer to a photograph that could be better waits behind the reasons until `anyway` is asked for (ADR 11).
    """
    return _analysis_page(desk().find(analysis_id))


@pages.post("/analyses/<uuid:analysis_id>/use-anyway")
@route_policy(auth="capability", limit=UPLOADS)
def use_anyway(analysis_id: uuid.UUID) -> BaseResponse:
    """Sends a photograph that was refused for a soft reason once more, overruling the reason."""
    require_own_form()
    refused = desk().find(analysis_id)
    try:
        photograph = desk().photograph(analysis_id)
    except BlobMissingError:
        return redirect(url_for("pages.start", force=1), 303)
    again = desk().take(photograph, force=True, store=refused.store)
    return redirect(url_for("pages.analysis", analysis_id=again), 303)


@pages.post("/analyses/<uuid:analysis_id>/cancel")
@route_policy(auth="capability", limit=READING)
def cancel(analysis_id: uuid.UUID) -> BaseResponse:
    """Stops an analysis that is not finished; one that has ended meanwhile is shown as it is."""
    require_own_form()
    with contextlib.suppress(AnalysisFinishedError):
        desk().cancel(analysis_id)
    return redirect(url_for("pages.analysis", analysis_id=analysis_id), 303)


@pages.post("/analyses/<uuid:analysis_id>/delete")
@route_policy(auth="capability", limit=READING)
def delete(analysis_id: uuid.UUID) -> BaseResponse:
    """Deletes photograph, answer and feedback, then says so."""
    require_own_form()
    desk().delete(analysis_id)
    return redirect(url_for("pages.deleted"), 303)


@pages.get("/deleted")
@route_policy(auth="public", limit=READING)
def deleted() -> str:
    """Where a deletion ends."""
    return render_template(
        "web/problem.html", status="", heading=_("It is deleted"), advice=_("Photo, answer and feedback are gone.")
    )


@pages.post("/analyses/<uuid:analysis_id>/feedback")
@route_policy(auth="capability", limit=READING)
def give_feedback(analysis_id: uuid.UUID) -> BaseResponse:
    """Stores what the lesion was confirmed as; an incomplete form is simply shown again."""
    require_own_form()
    desk().find(analysis_id)
    diagnosis, source = request.form.get("diagnosis", ""), request.form.get("source", "")
    if diagnosis not in FEEDBACK_DIAGNOSES or source not in FEEDBACK_SOURCES:
        return redirect(url_for("pages.analysis", analysis_id=analysis_id, anyway=1, _anchor="feedback"), 303)
    feedback = Feedback(diagnosis=diagnosis, source=source, consent=bool(request.form.get("consent")))
    desk().give_feedback(analysis_id, feedback)
    here = url_for("pages.analysis", analysis_id=analysis_id, anyway=1, thanks=1, _anchor="feedback")
    return redirect(here, 303)


@pages.post("/analyses/<uuid:analysis_id>/feedback/<uuid:feedback_id>/withdraw")
@route_policy(auth="capability", limit=READING)
def withdraw_feedback(analysis_id: uuid.UUID, feedback_id: uuid.UUID) -> BaseResponse:
    """Takes feedback and consent back."""
    require_own_form()
    desk().find(analysis_id)
    desk().withdraw_feedback(analysis_id, feedback_id)
    here = url_for("pages.analysis", analysis_id=analysis_id, anyway=1, withdrawn=1, _anchor="feedback")
    return redirect(here, 303)


@pages.get("/analyses/<uuid:analysis_id>/reminder.ics")
@route_policy(auth="capability", limit=READING)
def reminder(analysis_id: uuid.UUID) -> Response:
    """A calendar file: photograph the spot again `weeks` weeks after the day it was asked for."""
    desk().find(analysis_id)
    weeks = min(MAX_REMINDER_WEEKS, max(1, request.args.get("weeks", 6, type=int)))
    now = dt.datetime.now(dt.UTC)
    content = calendar_file(
        uid=f"{analysis_id}@lesionlens",
        day=now.date() + dt.timedelta(weeks=weeks),
        stamp=now,
        summary=_("Take the photo again"),
        description=_("Same place, same light, same distance.") + "\n" + url_for("pages.start", _external=True),
    )
    response = Response(content, mimetype="text/calendar")
    response.headers["Content-Disposition"] = 'attachment; filename="reminder.ics"'
    return response


@pages.get("/history")
@route_policy(auth="public", limit=READING)
def history() -> str:
    """The list of spots, filled in by the browser from what it keeps."""
    return render_template("web/history.html", texts=history_texts())


@pages.get("/about")
@route_policy(auth="public", limit=READING)
def about() -> str:
    """Who built this, how well it works and for whom it works worse."""
    return render_template("web/about.html", **_evidence())


@pages.get("/privacy")
@route_policy(auth="public", limit=READING)
def privacy() -> str:
    """What happens to a photograph, in plain words."""
    return render_template("web/privacy.html", retention_days=round(desk().settings.result_retention_d))


@pages.get("/manifest.webmanifest")
@route_policy(auth="public", limit=READING)
def manifest() -> Response:
    """What a phone needs to keep the page among its apps."""
    response = jsonify(
        {
            "name": "LesionLens",
            "short_name": "LesionLens",
            "description": _("Check a spot on your skin"),
            "lang": chosen_language(),
            "start_url": url_for("pages.start"),
            "scope": "/",
            "display": "standalone",
            "background_color": "#f6f4ef",
            "theme_color": "#f6f4ef",
            "icons": [
                {"src": _asset("icon.svg"), "sizes": "any", "type": "image/svg+xml"},
                {"src": _asset("icon-192.png"), "sizes": "192x192", "type": "image/png"},
                {"src": _asset("icon-512.png"), "sizes": "512x512", "type": "image/png", "purpose": "any maskable"},
            ],
        }
    )
    response.mimetype = "application/manifest+json"
    return response


@pages.get("/assets/<version>/<name>")
@route_policy(auth="public", limit=READING)
def assets(version: str, name: str) -> Response:
    """Style, scripts and icons; what carries the present version may be kept for good."""
    asset = all_assets().get(name)
    if asset is None:
        abort(404)
    response = Response(asset.content, mimetype=asset.media_type)
    response.cache_control.public = True
    if version == asset_version():
        response.cache_control.max_age = IMMUTABLE_AGE_S
        response.cache_control.immutable = True
    else:
        response.cache_control.no_cache = True
    return response


@pages.get("/favicon.ico")
@route_policy(auth="public", limit=READING)
def favicon() -> BaseResponse:
    """For browsers that ask without having read the page."""
    return redirect(_asset("icon-180.png"), 302)


@pages.context_processor
def what_every_page_needs() -> dict[str, object]:
    """What several templates say about retention."""
    return {"retention_hours": round(desk().settings.image_retention_h)}


@pages.after_request
def finish(response: Response) -> Response:
    """Headers of every page."""
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    if request.endpoint not in {"pages.assets", "pages.favicon"}:
        # Addresses of answers are secret and forms hold tokens: nothing of it belongs into a cache.
        response.headers.setdefault("Cache-Control", "no-store")
    return hand_out_token(label_language(response)) if response.mimetype == "text/html" else response


def page_globals() -> dict[str, object]:
    """What templates may call, on error pages too."""
    return {
        "asset": _asset,
        "language": chosen_language(),
        "languages": LANGUAGES,
        "form_token": form_token,
        "disclaimer": DISCLAIMER,
        "always_go": ALWAYS_GO,
    }


def percentage(share: float) -> str:
    """A share of 0–1 in per cent, as the language writes it; below one per cent with “<”, above 99 with “>”."""
    if 0 < share < 0.01:
        return "< " + str(format_percent(0.01))
    if 0.99 < share < 1:
        return "> " + str(format_percent(0.99))
    return str(format_percent(share))


def number(count: int) -> str:
    """A count as the language writes it."""
    return str(format_decimal(count))


def day(moment: dt.datetime) -> str:
    """A date as the language writes it."""
    return str(format_date(moment, "long"))


def _asset(name: str) -> str:
    return url_for("pages.assets", version=asset_version(), name=name)


def _chosen_photograph() -> bytes | Refusal:
    """The photograph in the form's two file fields (camera and gallery), or what is wrong with the choice."""
    files: list[FileStorage] = [file for file in request.files.getlist("image") if file.filename]
    if len(files) != 1:
        return ONE_PHOTOGRAPH if files else NO_PHOTOGRAPH
    content: bytes = files[0].read()
    return content


def _start_page(problem: Refusal | None) -> str:
    limit = desk().settings.max_upload_bytes
    return render_template(
        "web/start.html",
        problem=problem,
        texts=start_texts(),
        max_upload_bytes=limit,
        max_upload_megabytes=format_decimal(limit // 1_000_000),
        offer_force=bool(request.args.get("force")),
    )


def _analysis_page(analysis: Analysis) -> str:
    preparation = analysis.preparation or {}
    refused = analysis.state is AnalysisState.REJECTED
    answer = arrange(analysis.result, preparation) if analysis.result else None
    given = desk().feedback_of(analysis.id) if answer else ()
    concerns = [REFUSALS[code] for code in concern_codes(preparation) if code in REFUSALS]
    anyway = bool(request.args.get("anyway"))
    return render_template(
        "web/analysis.html",
        analysis=analysis,
        texts=analysis_texts(),
        answer=answer,
        refusal=_refusal(analysis) if refused else None,
        soft=refused and analysis.reason is not None and analysis.reason.code in SOFT_REASONS,
        failed=analysis.state is AnalysisState.FAILED,
        failed_sentence=FAILED_SENTENCE,
        cancelled=analysis.reason is not None and analysis.reason.code == CANCELLED.code,
        unfamiliar="not_a_lesion" in concern_codes(preparation),
        reason=analysis.reason,
        concerns=concerns,
        anyway=anyway,
        # Whoever sent it with “use it anyway” has been told already.
        held=bool(answer and concerns) and not (anyway or analysis.force),
        photo_kept=analysis.images_deleted_at is None and analysis.store,
        stages=STAGES,
        stage_index=list(STAGES).index(analysis.state) if analysis.state in STAGES else len(STAGES),
        position=desk().waiting_ahead(analysis) if analysis.state is AnalysisState.QUEUED else 0,
        refresh_s=REFRESH_S,
        feedback_diagnoses=FEEDBACK_DIAGNOSES,
        feedback_sources=FEEDBACK_SOURCES,
        given=given,
        consented=any(feedback.consent for feedback in given),
        thanks=bool(request.args.get("thanks")),
        withdrawn=bool(request.args.get("withdrawn")),
        abcde=ABCDE,
        **_evidence(),
    )


def _refusal(analysis: Analysis) -> Refusal:
    reason = analysis.reason
    if reason is None:
        return Refusal(UNKNOWN_REFUSAL_HEADING, FAILED_SENTENCE)
    known = REFUSALS.get(reason.code)
    return known or Refusal(UNKNOWN_REFUSAL_HEADING, reason.sentence)


def _evidence() -> dict[str, object]:
    evidence = read_evidence(desk().settings.models_dir)
    return {"evidence": evidence, "measures": _measures(evidence) if evidence else []}


def _measures(evidence: Evidence) -> list[tuple[str, str]]:
    """Measurements that were made, each with a name that says what it means."""
    wanted = (
        (_("Chance that a malignant spot is rated higher than a harmless one (AUC)"), evidence.ranking()),
        (_("The same for dermatoscope images alone"), evidence.ranking("dermoscopy")),
        (_("The same for phone photos alone"), evidence.ranking("pad_ufes_20")),
    )
    return [(name, _with_interval(ranking)) for name, ranking in wanted if ranking is not None]


def _with_interval(ranking: Ranking) -> str:
    """The number, what it may be by chance, and on how many photographs: 94 % on 87 is less than 88 % on 2,275."""
    said = percentage(ranking.auc)
    if ranking.low is not None and ranking.high is not None:
        said += f" ({percentage(ranking.low)} – {percentage(ranking.high)})"
    return said if ranking.images is None else f"{said} · n = {number(ranking.images)}"
