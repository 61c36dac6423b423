"""What the service tells, as typed values. Fields that a newer service adds are passed over."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.analysis.results import Band, Explanation, NetworkExplanation, NetworkOpinion, Reason, Result
from services.analysis.states import AnalysisState


@dataclass(frozen=True, slots=True)
class Guidance:
    """What to do next. Never a diagnosis, never an all-clear. `urgency` is `promptly`, `soon` or `watch`."""

    urgency: str
    headline: str
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer(Result):
    """A result as the service tells it: the numbers of `Result`, and how to understand them.

    `concerns` is what is wrong with the photograph though it was answered for; `hair_share` (0–1) how much of it was
    hair, painted over; `source_size` its width and height in pixels; `frame` the left and upper edge and the side of
    what was looked at, in sides of its centre square.
    """

    guidance: Guidance
    concerns: tuple[Reason, ...]
    hair_share: float | None
    source_size: tuple[int, int] | None
    frame: tuple[float, float, float] | None
    disclaimer: str


@dataclass(frozen=True, slots=True)
class Analysis:
    """One photograph and what became of it.

    `result` comes with the state `done`, `reason` with `rejected` and `failed`. `waiting_ahead` is how many unfinished
    analyses were accepted before it, while it is queued. `links` are paths below the service's address.
    """

    id: uuid.UUID
    state: AnalysisState
    stage: str
    created_at: dt.datetime
    finished_at: dt.datetime | None
    force: bool
    store: bool
    turns: int | None
    #: Of the person, in years; None: not told.
    age_years: int | None
    image_stored: bool
    links: Mapping[str, str]
    waiting_ahead: int | None = None
    reason: Reason | None = None
    result: Answer | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Photographs that were sent together, in their order. Analyses that were deleted since are left out."""

    id: uuid.UUID
    finished: bool
    analyses: tuple[Analysis, ...]


def parse_analysis(body: Mapping[str, Any]) -> Analysis:
    """From the JSON of `GET /v1/analyses/{id}`; KeyError, TypeError or ValueError when it is something else."""
    return Analysis(
        id=uuid.UUID(body["id"]),
        state=AnalysisState(body["state"]),
        stage=body["stage"],
        created_at=dt.datetime.fromisoformat(body["created_at"]),
        finished_at=dt.datetime.fromisoformat(body["finished_at"]) if body["finished_at"] else None,
        force=body["force"],
        store=body["store"],
        turns=body.get("tta"),
        age_years=body.get("age"),
        image_stored=body["image_stored"],
        links=body["links"],
        waiting_ahead=body.get("waiting_ahead"),
        reason=_reason(body["reason"]) if "reason" in body else None,
        result=_answer(body["result"]) if "result" in body else None,
    )


def parse_batch(body: Mapping[str, Any]) -> Batch:
    """From the JSON of `POST /v1/batches` and `GET /v1/batches/{id}`; raises as `parse_analysis` does."""
    analyses = tuple(parse_analysis(item) for item in body["items"])
    return Batch(uuid.UUID(body["id"]), all(analysis.state.terminal for analysis in analyses), analyses)


def _answer(body: Mapping[str, Any]) -> Answer:
    guidance, size, frame = body["guidance"], body["source_size"], body.get("frame")
    return Answer(
        probability=body["probability"],
        band=Band(body["band"]),
        networks=tuple(
            NetworkOpinion(opinion["name"], opinion["version"], opinion["logit"], opinion["probability"])
            for opinion in body["networks"]
        ),
        classes=tuple((diagnosis["name"], diagnosis["probability"]) for diagnosis in body["classes"]),
        attention=tuple(tuple(row) for row in body["attention"]),
        model_version=body["model_version"],
        guidance=Guidance(guidance["urgency"], guidance["headline"], tuple(guidance["steps"])),
        concerns=tuple(_reason(concern) for concern in body["concerns"]),
        hair_share=body["hair_share"],
        source_size=(size[0], size[1]) if size else None,
        frame=(frame["left"], frame["top"], frame["side"]) if frame else None,
        disclaimer=body["disclaimer"],
        explanation=_explanation(body["explanation"]) if "explanation" in body else None,
        without_age=body.get("probability_without_age"),
    )


def _explanation(body: Mapping[str, Any]) -> Explanation:
    return Explanation(
        intercept=body["intercept"],
        low_below=body["low_below"],
        high_from=body["high_from"],
        networks=tuple(
            NetworkExplanation(
                network["name"],
                network["coefficient"],
                network["contribution"],
                tuple(tuple(row) for row in network["attention"]),
            )
            for network in body["networks"]
        ),
        of_age=body.get("of_age"),
    )


def _reason(body: Mapping[str, Any]) -> Reason:
    return Reason(body["code"], body["sentence"])
