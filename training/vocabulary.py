"""One vocabulary of diagnoses: every source's spelling mapped to one of seven classes, or excluded with a reason.

The seven classes and their order are those of the ISIC 2018 challenge, task 3. Three of them count as malignant
(or, for actinic keratosis, as a precursor that needs treatment): ``mel``, ``bcc`` and ``akiec``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

CLASSES: tuple[str, ...] = ("mel", "nv", "bcc", "akiec", "bkl", "df", "vasc")
MALIGNANT: frozenset[str] = frozenset({"mel", "bcc", "akiec"})
MALIGNANT_INDICES: tuple[int, ...] = tuple(i for i, name in enumerate(CLASSES) if name in MALIGNANT)
BENIGN_INDICES: tuple[int, ...] = tuple(i for i, name in enumerate(CLASSES) if name not in MALIGNANT)


class Verdict(StrEnum):
    """What a label tells the training."""

    DIAGNOSIS = "diagnosis"
    BENIGN_UNKNOWN = "benign-unknown"
    EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True)
class Term:
    """One spelling's meaning: a diagnosis class, or a known side of the line, or the reason why it is left out."""

    verdict: Verdict
    diagnosis: str | None = None
    reason: str | None = None

    @property
    def allowed(self) -> tuple[float, ...]:
        """Mask over :data:`CLASSES` of the diagnoses that the label permits (all zero when excluded)."""
        if self.verdict is Verdict.DIAGNOSIS:
            return tuple(float(name == self.diagnosis) for name in CLASSES)
        if self.verdict is Verdict.BENIGN_UNKNOWN:
            return tuple(float(name not in MALIGNANT) for name in CLASSES)
        return (0.0,) * len(CLASSES)


def _is(diagnosis: str) -> Term:
    return Term(Verdict.DIAGNOSIS, diagnosis=diagnosis)


def _excluded(reason: str) -> Term:
    return Term(Verdict.EXCLUDED, reason=reason)


# Keys are lower case. Squamous cell carcinoma joins actinic keratosis and Bowen's disease in ``akiec``: one
# keratinocytic line of disease, and too few images for a class of its own. Lentigines and all seborrhoeic or
# lichenoid keratoses are ``bkl``, as in HAM10000.
SPELLINGS: dict[str, Term] = {
    # melanoma
    "mel": _is("mel"),
    "melanoma": _is("mel"),
    "melanoma in situ": _is("mel"),
    "melanoma metastasis": _is("mel"),
    # naevus
    "nv": _is("nv"),
    "nev": _is("nv"),
    "nevus": _is("nv"),
    "melanocytic nevus": _is("nv"),
    # basal cell carcinoma
    "bcc": _is("bcc"),
    "basal cell carcinoma": _is("bcc"),
    # actinic keratosis, Bowen's disease, squamous cell carcinoma
    "akiec": _is("akiec"),
    "ak": _is("akiec"),
    "ack": _is("akiec"),
    "actinic keratosis": _is("akiec"),
    "bowen's disease": _is("akiec"),
    "bod": _is("akiec"),
    "scc": _is("akiec"),
    "squamous cell carcinoma": _is("akiec"),
    # benign keratosis
    "bkl": _is("bkl"),
    "sek": _is("bkl"),
    "seborrheic keratosis": _is("bkl"),
    "seborrheic_keratosis": _is("bkl"),
    "pigmented benign keratosis": _is("bkl"),
    "lichenoid keratosis": _is("bkl"),
    "solar lentigo": _is("bkl"),
    "lentigo nos": _is("bkl"),
    "lentigo simplex": _is("bkl"),
    # dermatofibroma
    "df": _is("df"),
    "dermatofibroma": _is("df"),
    # vascular lesion
    "vasc": _is("vasc"),
    "vascular lesion": _is("vasc"),
    "angioma": _is("vasc"),
    # known side, unknown diagnosis
    "cafe-au-lait macule": Term(Verdict.BENIGN_UNKNOWN),
    # left out
    "unk": _excluded("the ground truth says that the diagnosis is none of the known ones"),
    "atypical melanocytic proliferation": _excluded("neither benign nor malignant by its pathologist"),
}

_BENIGN_WITHOUT_DIAGNOSIS = Term(Verdict.BENIGN_UNKNOWN)


def interpret(spelling: str, label: str) -> Term:
    """Return what a diagnosis and its ``label`` (``benign``, ``malignant``, ``unknown`` or empty) mean together.

    A label that contradicts the diagnosis excludes the image, and so does an explicit ``unknown`` label. A diagnosis
    that is missing or ``unknown`` beside a benign label keeps the image with the benign side alone.
    """
    key = spelling.strip().lower()
    side = label.strip().lower()
    if side == "unknown":
        return _excluded("two folders of the source label this image differently")
    if key in {"", "unknown", "nan"}:
        if side == "benign":
            return _BENIGN_WITHOUT_DIAGNOSIS
        return _excluded("no diagnosis and no benign label")
    term = SPELLINGS.get(key)
    if term is None:
        return _excluded(f"diagnosis {spelling.strip()!r} is not in the vocabulary")
    if term.verdict is Verdict.DIAGNOSIS and side:
        expected = "malignant" if term.diagnosis in MALIGNANT else "benign"
        if side != expected:
            return _excluded(f"label {side!r} contradicts diagnosis {spelling.strip()!r}")
    if term.verdict is Verdict.BENIGN_UNKNOWN and side == "malignant":
        return _excluded(f"label {side!r} contradicts diagnosis {spelling.strip()!r}")
    return term
