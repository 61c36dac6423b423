"""The states of an analysis and the two stages that move it along."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class AnalysisState(StrEnum):
    """Where an analysis stands.

    There is no *cancelled*: to cancel an analysis is to delete it, and `DELETED` remembers only that it existed, so
    that its address can answer 410 rather than 404.
    """

    QUEUED = "queued"
    PREPARING = "preparing"
    PREPARED = "prepared"
    STACKING = "stacking"
    DONE = "done"
    REJECTED = "rejected"
    FAILED = "failed"
    DELETED = "deleted"

    @property
    def terminal(self) -> bool:
        """Whether nothing will happen to the analysis any more, short of its deletion."""
        return self in TERMINAL_STATES


TERMINAL_STATES = frozenset({AnalysisState.DONE, AnalysisState.REJECTED, AnalysisState.FAILED, AnalysisState.DELETED})


@dataclass(frozen=True, slots=True)
class Stage:
    """One worker's part of the way: takes analyses in `waiting`, holds them in `working`, rung through `queue`."""

    name: str
    queue: str
    task: str
    waiting: AnalysisState
    working: AnalysisState


PREPARE = Stage(
    name="prepare",
    queue="preprocess",
    task="lesionlens.prepare_analysis",
    waiting=AnalysisState.QUEUED,
    working=AnalysisState.PREPARING,
)
STACK = Stage(
    name="stack",
    queue="stack",
    task="lesionlens.stack_analysis",
    waiting=AnalysisState.PREPARED,
    working=AnalysisState.STACKING,
)
STAGES = (PREPARE, STACK)


def stage_of(state: AnalysisState) -> Stage | None:
    """The stage that has to act on an analysis in `state`; None once it is terminal."""
    for stage in STAGES:
        if state in (stage.waiting, stage.working):
            return stage
    return None
