"""The page of one analysis, and what its owner can do there. Everything works without JavaScript."""

from __future__ import annotations

import contextlib
import datetime as dt
import uuid

from flask import Response, redirect, render_template, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as BaseResponse

from services.analysis.errors import AnalysisFinishedError, BlobMissingError
from services.analysis.record import CANCELLED, Analysis, Feedback
from services.analysis.states import AnalysisState
from services.gateway.policy import POLLS, UPLOADS, route_policy
from services.gateway.web.answer import arrange, concern_codes
from services.gateway.web.blueprint import READING, desk, pages
from services.gateway.web.evidence import Evidence
from services.gateway.web.evidence_words import told_evidence
from services.gateway.web.form_token import require_own_form
from services.gateway.web.reminder import calendar_file
from services.gateway.web.script_texts import analysis_texts
from services.gateway.web.wording import (
    ABCDE,
    FAILED_SENTENCE,
    FEEDBACK_DIAGNOSES,
    FEEDBACK_SOURCES,
    REFUSALS,
    STAGES,
    UNKNOWN_REFUSAL_HEADING,
    Refusal,
)

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
    again = desk().take(photograph, force=True, store=refused.store, age_years=refused.age_years)
    return redirect(url_for("pages.analysis", analysis_id=again, instead=analysis_id), 303)


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
        # Calendars are shared, and whoever knows an analysis' id may read and delete it.
        uid=f"{uuid.uuid5(analysis_id, 'reminder')}@lesionlens",
        day=now.date() + dt.timedelta(weeks=weeks),
        stamp=now,
        summary=_("Take the photo again"),
        description=_("Same place, same light, same distance.") + "\n" + url_for("pages.start", _external=True),
    )
    response = Response(content, mimetype="text/calendar")
    response.headers["Content-Disposition"] = 'attachment; filename="reminder.ics"'
    return response


def _analysis_page(analysis: Analysis) -> str:
    preparation = analysis.preparation or {}
    refused = analysis.state is AnalysisState.REJECTED
    answer = arrange(analysis.result, preparation) if analysis.result else None
    given = desk().feedback_of(analysis.id) if answer else ()
    concerns = [REFUSALS[code] for code in concern_codes(preparation) if code in REFUSALS]
    anyway = bool(request.args.get("anyway"))
    evidence = told_evidence(desk().settings.models_dir)
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
        instead=request.args.get("instead", type=uuid.UUID),
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
        missed_below=_missed_below(analysis, evidence["evidence"]),
        **evidence,
    )


def _missed_below(analysis: Analysis, evidence: Evidence | None) -> int | None:
    if evidence is None:
        return None
    of_the_age = None if analysis.age_years is None else evidence.missed_below_at(analysis.age_years)
    return of_the_age or evidence.missed_below


def _refusal(analysis: Analysis) -> Refusal:
    reason = analysis.reason
    if reason is None:
        return Refusal(UNKNOWN_REFUSAL_HEADING, FAILED_SENTENCE)
    known = REFUSALS.get(reason.code)
    return known or Refusal(UNKNOWN_REFUSAL_HEADING, reason.sentence)
