"""The report in the language of the request, so that whoever reads the page in German hands over a German report."""

from __future__ import annotations

from flask_babel import format_datetime, format_percent, get_locale
from flask_babel import gettext as _

from services.analysis.record import Analysis
from services.analysis.results import Result
from services.gateway.report_words import ReportWords, bounded, counted_of_hundred, english_words
from services.gateway.web.answer import concern_codes
from services.gateway.web.languages import DEFAULT_LANGUAGE, chosen_language
from services.gateway.web.wording import ALWAYS_GO, BANDS, DIAGNOSES, DISCLAIMER, GUIDANCE, REFUSALS


def words_of_report(analysis: Analysis, result: Result) -> ReportWords:
    """Every word of the report, translated; English stays as the API words it."""
    language = chosen_language()
    if language == DEFAULT_LANGUAGE:
        return english_words(analysis, result)
    concerns = concern_codes(analysis.preparation or {})
    # The pages' steps speak of “the report below”; what a doctor should know of them is how soon, and when sooner.
    return ReportWords(
        language=language,
        title=_("LesionLens: analysis of a photographed spot on the skin"),
        subject=_("Automated analysis of a photo; not a diagnosis"),
        received=f"{_('Received on')} {_plain(format_datetime(analysis.created_at, 'short'))} UTC",
        models=_("Model version"),
        analysis=_("Analysis"),
        band=str(BANDS[result.band].heading),
        probability=_("Calibrated probability that the spot is malignant"),
        meaning=_plain(
            _(
                "Of 100 photos in our tests that were rated like this one, about %(num)s showed a malignant spot.",
                num=counted_of_hundred(result),
            )
        ),
        of_age=_of_age(analysis, result),
        photograph_gone=_("The photo is no longer stored on the server."),
        photograph_caption=_("Middle square of the photo, as the networks saw it"),
        attention_caption=_("Where the networks looked (light: most)"),
        networks=_("Probability by network (not calibrated)"),
        diagnoses=_("Resemblance by kind of spot"),
        malignant="* " + _("malignant or a precursor"),
        headline=str(GUIDANCE[result.band].urgency),
        steps=(str(BANDS[result.band].meaning), str(ALWAYS_GO)),
        photograph=_("About this photo"),
        concerns=tuple(f"{REFUSALS[code].heading}. {REFUSALS[code].advice}" for code in concerns if code in REFUSALS),
        disclaimer=str(DISCLAIMER),
        class_names={code: str(name.medical) for code, name in DIAGNOSES.items()},
        percent=lambda share: bounded(share, _percent),
    )


def _of_age(analysis: Analysis, result: Result) -> str:
    if result.without_age is None:
        return ""
    alone = bounded(result.without_age, _percent)
    return _plain(
        _(
            "The age of %(age)s is counted in. From the photo alone it would be %(share)s.",
            age=analysis.age_years,
            share=alone,
        )
    )


def _percent(share: float) -> str:
    return _plain(format_percent(share, _one_decimal()))


def _one_decimal() -> str:
    """The language's own way to write a percentage, with one decimal place."""
    locale = get_locale()
    pattern = locale.percent_formats[None].pattern if locale else "#,##0%"
    return str(pattern).replace("#,##0", "#,##0.0")


def _plain(text: str) -> str:
    """Without the narrow space that French puts before a sign: the report's font, which every reader has, lacks it."""
    return text.replace("\N{NARROW NO-BREAK SPACE}", "\N{NO-BREAK SPACE}")
