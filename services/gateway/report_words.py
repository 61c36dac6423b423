"""What the report says, apart from where on the page it stands: in English here, in other languages by the pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.analysis.record import Analysis
from services.analysis.results import Result
from services.gateway.guidance import BAND_LABELS, CLASS_LABELS, DISCLAIMER, guidance_for

#: Where an application keeps the function that words the report for the present request, if it has one.
REPORT_WORDS = "lesionlens-report-words"


@dataclass(frozen=True, slots=True)
class ReportWords:
    """Every word of one report. `percent` writes a share of 0–1 as the language does."""

    language: str
    title: str
    subject: str
    received: str
    models: str
    analysis: str
    band: str
    probability: str
    meaning: str
    #: That the age counts in the probability, and what it is without; empty where it does not.
    of_age: str
    photograph_gone: str
    photograph_caption: str
    attention_caption: str
    networks: str
    diagnoses: str
    malignant: str
    headline: str
    steps: tuple[str, ...]
    photograph: str
    concerns: tuple[str, ...]
    disclaimer: str
    class_names: Mapping[str, str]
    percent: Callable[[float], str]


def counted_of_hundred(result: Result) -> int:
    """The probability as a count out of a hundred; never 0 or 100, which no evidence supports."""
    return min(99, max(1, round(result.probability * 100)))


#: Shares between this and its complement are written as they are; others would be told as “0.0 %” or “100 %”.
SMALLEST_SHARE = 0.001


def bounded(share: float, write: Callable[[float], str]) -> str:
    """A share as `write` writes it, with “<” or “>” where rounding would make it a certainty."""
    if 0 < share < SMALLEST_SHARE:
        return f"< {write(SMALLEST_SHARE)}"
    if 1 - SMALLEST_SHARE < share < 1:
        return f"> {write(1 - SMALLEST_SHARE)}"
    return write(share)


def english_words(analysis: Analysis, result: Result) -> ReportWords:
    """The report in English, in the words of the API."""
    guidance = guidance_for(result.band)

    def percent(share: float) -> str:
        return bounded(share, "{:.1%}".format)

    of_age = ""
    if result.without_age is not None:
        alone = percent(result.without_age)
        of_age = f"The age that was told, {analysis.age_years}, counts in it; from the photograph alone it is {alone}."
    concerns = (analysis.preparation or {}).get("concerns") or ()
    return ReportWords(
        language="en",
        title="LesionLens: analysis of a photographed skin lesion",
        subject="Automated analysis of a photographed skin lesion; not a diagnosis",
        received=f"Received {analysis.created_at:%Y-%m-%d %H:%M} UTC",
        models="Models",
        analysis="Analysis",
        band=BAND_LABELS[result.band],
        probability="Calibrated probability of malignancy",
        meaning=f"Of 100 photographs answered with this number, about {counted_of_hundred(result)} would be expected to"
        " be malignant among photographs like those tested.",
        of_age=of_age,
        photograph_gone="The photograph is no longer stored.",
        photograph_caption="Centre square of the photograph, as analysed",
        attention_caption="Where the networks looked (light = most)",
        networks="Four networks (not calibrated)",
        diagnoses="Diagnoses by probability",
        malignant="* counts as malignant",
        headline=guidance.headline,
        steps=guidance.steps,
        photograph="About the photograph",
        concerns=tuple(str(concern["sentence"]) for concern in concerns),
        disclaimer=DISCLAIMER,
        class_names=CLASS_LABELS,
        percent=percent,
    )
