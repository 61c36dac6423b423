"""Looking at one prepared lesion: the turns, the four networks, the stack. Shared by worker and command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.analysis.results import NETWORKS, Band, Reason, Result
from services.stacker.out_of_distribution import Familiarity
from services.stacker.stacking import Stack, combine
from services.stacker.turns import pose_of, turned, turned_back
from serving.answers import Ensemble, NetworkAnswer, NetworkFailure


@dataclass(frozen=True, slots=True)
class Unanswered:
    """One or more networks gave no answer; three networks are not an answer."""

    failures: tuple[NetworkFailure, ...]

    @property
    def reason(self) -> Reason:
        """What is recorded when no try is left."""
        names = ", ".join(failure.name for failure in self.failures)
        return Reason(
            code="network_unavailable",
            sentence=f"Not all four networks could look at the photograph ({names}). Please try again later.",
        )


NOT_A_LESION = Reason(
    code="not_a_lesion",
    sentence=(
        "This does not look like a close photograph of a spot on the skin, so no answer is given."
        " Please photograph the spot from about 10 cm, in focus, with some skin around it."
    ),
)


def look(
    tensor: NDArray[np.uint8],
    networks: Ensemble,
    stack: Stack,
    familiarity: Familiarity | None,
    deadline_s: float,
    *,
    force: bool = False,
    turns: int | None = None,
    watch: Callable[[NDArray[np.uint8], Sequence[NetworkAnswer]], None] | None = None,
    explain: bool = False,
    age_years: int | None = None,
) -> Result | Reason | Unanswered:
    """The answer for a prepared lesion, or why there is none.

    Args:
        tensor: uint8 [224, 224, 3].
        networks: who is asked.
        stack: how the logits are combined.
        familiarity: tells lesions from other pictures; None when the models were exported without it.
        deadline_s: seconds for the four networks together.
        force: answer even for what does not look like a lesion.
        turns: sides that every network looks from (1, 2, 4 or 8); None: as many as the stack was made for.
        watch: is shown what the networks looked at, uint8 [turns,224,224,3], and their four answers, each to the first
            of those turns, before anything is made of them.
        explain: tell also what each network contributed.
        age_years: the person's age, where it is known.
    """
    turns_of = dict.fromkeys(NETWORKS, turns) if turns else stack.turns
    pose = pose_of(tensor)
    looked_at = turned(tensor, max(turns_of.values()), pose)
    outcomes = networks.ask_all(looked_at, deadline_s, turns_of)
    failures = tuple(outcome for outcome in outcomes if isinstance(outcome, NetworkFailure))
    answers = [outcome for outcome in outcomes if isinstance(outcome, NetworkAnswer)]
    if failures or len(answers) != len(NETWORKS):
        return Unanswered(failures)
    if watch is not None:
        watch(looked_at, answers)
    strange = familiarity is not None and not familiarity.is_lesion(answers)
    if strange and not force:
        return NOT_A_LESION
    as_photographed = [replace(answer, attention=turned_back(answer.attention, pose)) for answer in answers]
    result = combine(stack, as_photographed, explain=explain, age_years=age_years)
    return _doubted(result) if strange else result


def _doubted(result: Result) -> Result:
    """For whoever overruled the refusal: beside the answer stands what it is worth, and it never reassures.

    The calibration holds for what the networks know; of anything else “few signs” would be said without evidence.
    """
    band = Band.UNSURE if result.band is Band.LOW else result.band
    return replace(result, band=band, doubts=(NOT_A_LESION,))
