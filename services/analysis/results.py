"""What an analysis ends with: the contract between stacker, record and gateway."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Band(StrEnum):
    """The risk band in words. `UNSURE` is an honest answer, not an error."""

    LOW = "low"
    UNSURE = "unsure"
    HIGH = "high"


#: The four networks, in the order in which logits are stacked.
NETWORKS = ("mobilenet", "densenet121", "densenet169", "nasnetmobile")

#: The seven diagnosis classes of HAM10000 (Tschandl 2018), in the order of `class_logits`.
CLASSES = ("mel", "nv", "bcc", "akiec", "bkl", "df", "vasc")

#: Classes that count as malignant: melanoma, basal cell carcinoma, actinic keratosis / squamous cell carcinoma.
MALIGNANT_CLASSES = ("mel", "bcc", "akiec")

#: Years that a person's age may be given in, whole ones.
YOUNGEST_YEARS, OLDEST_YEARS = 0, 120

#: Side in pixels of the square tensor on the wire; what all four networks were built for.
TENSOR_SIDE_PX = 224

#: Side of the attention grid: 224 px divided by the networks' total stride of 32.
ATTENTION_SIDE = 7


@dataclass(frozen=True, slots=True)
class NetworkOpinion:
    """One network's answer: `logit` (malignant against benign, unbounded) and its sigmoid in 0–1."""

    name: str
    version: int
    logit: float
    probability: float


@dataclass(frozen=True, slots=True)
class NetworkExplanation:
    """What one network added to the answer: `contribution` = `coefficient` × its logit, in log-odds.

    `attention` is its own 7×7 grid of 0–1 (row-major; 1 = spoke most for malignancy), before the mean was taken.
    """

    name: str
    coefficient: float
    contribution: float
    attention: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """How the probability came about, and where the bands begin and end.

    It is sigmoid(`intercept` + Σ `contribution` + `of_age`); `of_age` is the part that depends on the person's age, in
    log-odds.
    """

    intercept: float
    low_below: float
    high_from: float
    networks: tuple[NetworkExplanation, ...]
    #: None: the age was not known, or these models make nothing of it.
    of_age: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A finished analysis.

    `probability` is calibrated (0–1), `classes` sums to 1 in the order of `CLASSES`, `attention` is a 7×7 grid of
    0–1 (row-major, mean over the networks; 1 = looked at most), `model_version` names the stack. `explanation` is there
    when it was asked for; `doubts` are reasons against an answer that its sender overruled. `without_age` is the
    probability from the photograph alone, where the person's age counts in the other one; `classes` are always the
    photograph's.
    """

    probability: float
    band: Band
    networks: tuple[NetworkOpinion, ...]
    classes: tuple[tuple[str, float], ...]
    attention: tuple[tuple[float, ...], ...]
    model_version: str
    explanation: Explanation | None = field(default=None, kw_only=True)
    doubts: tuple[Reason, ...] = field(default=(), kw_only=True)
    without_age: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an analysis was rejected or failed: a stable code for programs, a sentence for the person."""

    code: str
    sentence: str
