"""A finished analysis, arranged for reading: shares as numbers to draw, words by code, agreement of the networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask_babel import LazyString
from flask_babel import lazy_gettext as _

from services.analysis.results import MALIGNANT_CLASSES, Result
from services.gateway.attention import frame_in
from services.gateway.web.wording import BANDS, DIAGNOSES, GUIDANCE, BandWords, DiagnosisName, Guidance
from services.preprocessor.imaging.outcomes import WHOLE_SQUARE

#: Distance between the lowest and the highest of the four probabilities up to which they count as agreeing. A quarter
#: of the scale keeps them on one side of it in nearly every case.
AGREE_WITHIN = 0.25
#: Above this distance, half of the scale, at least one network says nearly the opposite of another.
DISAGREE_FROM = 0.5

#: The names of the architectures as their authors write them.
NETWORK_NAMES = {
    "mobilenet": "MobileNet",
    "densenet121": "DenseNet-121",
    "densenet169": "DenseNet-169",
    "nasnetmobile": "NASNet-Mobile",
}


@dataclass(frozen=True, slots=True)
class Opinion:
    """One network's probability, 0–1."""

    name: str
    version: int
    probability: float


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much the photograph resembles one kind of lesion, 0–1."""

    code: str
    name: DiagnosisName
    probability: float
    malignant: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything the answer page shows that follows from the result alone."""

    probability: float
    #: From the photograph alone, where the person's age counts in it; None where it does not.
    without_age: float | None
    #: The probability as a count out of a hundred; never 0 or 100, which no evidence supports.
    of_hundred: int
    band: str
    words: BandWords
    guidance: Guidance
    opinions: tuple[Opinion, ...]
    agreement: LazyString
    likenesses: tuple[Likeness, ...]
    model_version: str
    #: Share of the prepared square that was inpainted because hair lay over it, 0–1; None when it was not recorded.
    hair_share: float | None
    #: Whether something dark around what is lit of the photograph was left out.
    framed: bool
    #: Codes of what would make the next photograph better.
    concerns: tuple[str, ...]


def arrange(result: Result, preparation: Mapping[str, Any] | None) -> Answer:
    """The result as the page tells it."""
    opinions = tuple(
        Opinion(NETWORK_NAMES.get(network.name, network.name), network.version, network.probability)
        for network in result.networks
    )
    likenesses = sorted(
        (
            Likeness(code, DIAGNOSES[code], probability, code in MALIGNANT_CLASSES)
            for code, probability in result.classes
        ),
        key=lambda likeness: -likeness.probability,
    )
    noted = preparation or {}
    hair = noted.get("hair_share")
    return Answer(
        probability=result.probability,
        without_age=result.without_age,
        of_hundred=min(99, max(1, round(result.probability * 100))),
        band=result.band.value,
        words=BANDS[result.band],
        guidance=GUIDANCE[result.band],
        opinions=opinions,
        agreement=agreement([opinion.probability for opinion in opinions]),
        likenesses=tuple(likenesses),
        model_version=result.model_version,
        hair_share=float(hair) if isinstance(hair, int | float) else None,
        framed=frame_in(noted) != WHOLE_SQUARE,
        concerns=concern_codes(noted),
    )


def agreement(probabilities: list[float]) -> LazyString:
    """How far the networks agree, in words."""
    distance = max(probabilities) - min(probabilities)
    if distance <= AGREE_WITHIN:
        return _("The four networks agree with each other.")
    if distance < DISAGREE_FROM:
        return _("The four networks agree only in part.")
    return _("The four networks contradict each other. Trust this answer less.")


def concern_codes(preparation: Mapping[str, Any]) -> tuple[str, ...]:
    """The codes of the concerns that the preprocessor noted, each as a string or as an object with a `code`."""
    return tuple(
        str(concern["code"] if isinstance(concern, Mapping) else concern)
        for concern in preparation.get("concerns") or ()
    )
