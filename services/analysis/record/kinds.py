"""What the record is told, and what it tells."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.analysis.results import Reason, Result
from services.analysis.states import AnalysisState, Stage

TOO_MANY_DELIVERIES = Reason(
    code="delivered_too_often",
    sentence="This photograph could not be worked through after several tries. Please take a new one and try again.",
)

OUT_OF_TIME = Reason(
    code="out_of_time",
    sentence="This photograph could not be answered for in time. Nothing is wrong with it: please send it again.",
)

CANCELLED = Reason(
    code="cancelled",
    sentence="The analysis was cancelled before it had ended, and its photograph was deleted.",
)


@dataclass(frozen=True, slots=True)
class Submission:
    """An upload as the gateway accepts it. Digests are SHA-256."""

    analysis_id: uuid.UUID
    upload_digest: bytes
    idempotency_key_digest: bytes | None = None
    force: bool = False
    store: bool = True
    turns: int | None = None
    #: Seconds after which nobody waits for the answer any more; None: as long as it takes.
    answer_within_s: float | None = None
    explain: bool = False
    #: Of the person, 0–120; None: not told.
    age_years: int | None = None
    #: Set when the gateway already knows that the file cannot be used: it is recorded as rejected, with no photograph.
    refusal: Reason | None = None


@dataclass(frozen=True, slots=True)
class Behalf:
    """On whose behalf the record is read and written: an API key's, or (None) that of somebody without one."""

    api_key_id: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one analysis until `until` (database clock)."""

    analysis_id: uuid.UUID
    stage: Stage
    token: uuid.UUID
    until: dt.datetime
    #: 1 for the first try of this stage.
    delivery: int
    force: bool
    store: bool
    #: Sides to look at the lesion from; None: as many as the stack was made for.
    turns: int | None
    #: Seconds that are left of the time in which the analysis must be answered; None: no limit.
    time_left_s: float | None = None
    explain: bool = False
    age_years: int | None = None


@dataclass(frozen=True, slots=True)
class NotClaimed:
    """There is nothing to do: somebody else holds it, or it is past this stage, deleted or unknown."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The analysis was begun too often, or too late, and has just been recorded as failed."""

    store: bool
    reason: Reason = TOO_MANY_DELIVERIES


@dataclass(frozen=True, slots=True)
class Analysis:
    """One analysis as it is told to its owner."""

    id: uuid.UUID
    state: AnalysisState
    created_at: dt.datetime
    updated_at: dt.datetime
    finished_at: dt.datetime | None
    deliveries: int
    force: bool
    store: bool
    turns: int | None
    images_deleted_at: dt.datetime | None
    upload_digest: bytes
    explain: bool = False
    age_years: int | None = None
    preparation: Mapping[str, Any] | None = None
    reason: Reason | None = None
    result: Result | None = None
    batch_id: uuid.UUID | None = None
    batch_position: int | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits for one stage: `waiting` analyses, the oldest for `oldest_s` seconds."""

    stage: Stage
    waiting: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Pressure:
    """How much work there is, and how quickly it is done."""

    #: Analyses that were accepted and are not finished.
    waiting: int
    #: How many seconds the oldest analysis has waited that nobody has begun yet (in its present stage).
    oldest_s: float
    #: Analyses finished in a second, measured while there was work; 0: none was.
    finished_per_s: float


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a lesion was confirmed as, and by whom (`biopsy`, `clinician`, `self`)."""

    diagnosis: str
    source: str
    consent: bool
    id: uuid.UUID = field(default_factory=uuid.uuid4)
