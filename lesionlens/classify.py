"""The pipeline in one process: files in, a row for each out. No queue, no server, the same functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lesionlens.outcomes import Classified
from services.analysis.results import Reason
from services.analysis.states import AnalysisState
from services.preprocessor.imaging import Rejection, prepare_lesion
from services.stacker.look import Unanswered, look
from services.stacker.out_of_distribution import Familiarity
from services.stacker.stacking import Stack
from serving.answers import Ensemble

#: In one process nobody waits for anybody, and a slow machine is no reason to give no answer: a minute.
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The four networks and how to combine them."""

    networks: Ensemble
    stack: Stack
    familiarity: Familiarity | None
    #: Sides to look at each lesion from; None: as many as the stack was made for.
    turns: int | None = None
    #: Of the person in all of the photographs; None: not known.
    age_years: int | None = None

    def classify(self, file: Path, *, force: bool = False) -> Classified:
        """Prepare one file, look at it, combine. What cannot be read is an outcome with a reason, never an exception.

        `force` answers in spite of soft quality reasons and of an unfamiliar picture; the reason stays beside it.
        """
        name = str(file)
        try:
            data = file.read_bytes()
        except OSError as error:
            return Classified(name, AnalysisState.REJECTED, readable=False, reason=f"unreadable: {error.strerror}")
        overruled = []
        lesion = prepare_lesion(data)
        if isinstance(lesion, Rejection) and lesion.soft and force:
            overruled.append(lesion.code)
            lesion = prepare_lesion(data, force=True)
        if isinstance(lesion, Rejection):
            return Classified(name, AnalysisState.REJECTED, readable=lesion.soft, reason=lesion.code)
        outcome = look(
            lesion.tensor,
            self.networks,
            self.stack,
            self.familiarity,
            DEADLINE_S,
            force=force,
            turns=self.turns,
            age_years=self.age_years,
        )
        if isinstance(outcome, Unanswered):
            return Classified(name, AnalysisState.FAILED, readable=True, reason=outcome.reason.code)
        if isinstance(outcome, Reason):
            return Classified(name, AnalysisState.REJECTED, readable=True, reason=outcome.code)
        overruled += [doubt.code for doubt in outcome.doubts]
        return Classified(name, AnalysisState.DONE, readable=True, reason=";".join(overruled), result=outcome)
