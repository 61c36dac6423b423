"""What a person is told beside the number: what to do next, and what this is not.

Nothing here is a diagnosis, and nothing is an all-clear: a low band says what to watch for and when to see a doctor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.analysis.results import CLASSES, MALIGNANT_CLASSES, Band
from services.analysis.states import AnalysisState

DISCLAIMER: Final = (
    "LesionLens is research software, not a medical device. This is a statistical estimate from one photograph, not a"
    " diagnosis, and it can be wrong in both directions. Only a doctor who examines the skin can tell what a spot is."
)

#: The ABCDE rule (Abbasi 2004, JAMA 292:2771) and the "ugly duckling" sign (Grob 1998).
ABCDE: Final = (
    ("A", "Asymmetry: one half does not match the other."),
    ("B", "Border: ragged, notched or blurred."),
    ("C", "Colour: several shades, or black, blue, red or white parts."),
    ("D", "Diameter: larger than 6 mm, about a pencil's end; smaller ones can matter too."),
    ("E", "Evolving: it changes in size, shape or colour, or itches, bleeds or does not heal."),
)

_WATCH: Final = (
    "See a doctor if the spot changes in size, shape or colour, itches, bleeds or does not heal, looks different from"
    " your other spots, or simply worries you."
)


@dataclass(frozen=True, slots=True)
class Guidance:
    """What to do next.

    Attributes:
        urgency: `promptly`, `soon` or `watch`, for programs.
        headline: the band in words.
        steps: sentences, the most important first.
    """

    urgency: str
    headline: str
    steps: tuple[str, ...]


_GUIDANCE: Final = {
    Band.HIGH: Guidance(
        "promptly",
        "This photograph has features that deserve a doctor's look soon",
        (
            "Make an appointment with a dermatologist promptly, within days, and say that a spot was found suspicious.",
            "Do not wait for it to change, and do not treat or remove it yourself.",
            "Many spots in this band turn out to be harmless; only an examination can tell.",
        ),
    ),
    Band.UNSURE: Guidance(
        "soon",
        "The networks cannot tell from this photograph",
        (
            "Have the spot looked at by a doctor. Unsure is an honest answer, not a mild one.",
            "A sharper photograph in daylight, straight from above, may give a clearer answer; it replaces no visit.",
            _WATCH,
        ),
    ),
    Band.LOW: Guidance(
        "watch",
        "The networks saw few suspicious features in this photograph",
        (
            "This does not mean that the spot is harmless: some dangerous ones look inconspicuous in a photograph.",
            _WATCH,
            "Look at it again in a month, in the same light, with the ABCDE rule.",
        ),
    ),
}

#: The seven diagnoses in words a person can look up.
CLASS_LABELS: Final = {
    "mel": "Melanoma",
    "nv": "Melanocytic naevus (mole)",
    "bcc": "Basal cell carcinoma",
    "akiec": "Actinic keratosis or squamous cell carcinoma",
    "bkl": "Benign keratosis (for example seborrhoeic keratosis)",
    "df": "Dermatofibroma",
    "vasc": "Vascular lesion (for example angioma)",
}

BAND_LABELS: Final = {
    Band.LOW: "Few suspicious features",
    Band.UNSURE: "Unsure",
    Band.HIGH: "Suspicious features",
}

STAGE_WORDS: Final = {
    AnalysisState.QUEUED: "Waiting for its turn",
    AnalysisState.PREPARING: "Preparing the photograph",
    AnalysisState.PREPARED: "Waiting for the networks",
    AnalysisState.STACKING: "Four networks are looking at it",
    AnalysisState.DONE: "Finished",
    AnalysisState.REJECTED: "The photograph cannot be used",
    AnalysisState.FAILED: "Something went wrong on our side",
    AnalysisState.DELETED: "Deleted",
}


def guidance_for(band: Band) -> Guidance:
    """What to do next in this band."""
    return _GUIDANCE[band]


def is_malignant(diagnosis: str) -> bool:
    """Whether one of the seven diagnoses counts as malignant."""
    return diagnosis in MALIGNANT_CLASSES


def ranked(classes: tuple[tuple[str, float], ...]) -> list[tuple[str, float]]:
    """The diagnoses, the likeliest first; equal ones in the order of `CLASSES`."""
    return sorted(classes, key=lambda item: (-item[1], CLASSES.index(item[0])))
