"""What has to be trained before something else can begin: what is exported, and the teachers of a student."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from services.analysis.errors import LesionLensError
from training.recipe import Recipe


class NotTrainedError(LesionLensError):
    """A network is needed that no training has brought to its end."""

    problem = "not-trained"
    title = "A network is not trained to its end"
    advice = (
        "Run `lesionlens train --network NAME` with the same --data and --runs for it first; `lesionlens export"
        " --network` leaves out what is not trained, where a published version of it can stay."
    )


def refuse_untrained(runs: Path, names: Iterable[str]) -> None:
    """Refuse what needs these networks' weights before all of them are trained.

    Raises:
        NotTrainedError: one has no weights in ``runs``, or no recipe beside them.
    """
    missing = [name for name in names if not _is_trained(runs, name)]
    if missing:
        raise NotTrainedError(f"{runs} holds no finished training of {', '.join(missing)}")


def refuse_without_teachers(recipes: Sequence[Recipe], runs: Path) -> None:
    """Refuse recipes, trained in this order, one of which would find a teacher untrained.

    Raises:
        NotTrainedError: a teacher has no weights in ``runs`` and is not trained before its student.
    """
    for place, recipe in enumerate(recipes):
        before = {earlier.network for earlier in recipes[:place]}
        if not _is_trained(runs, recipe.network):
            refuse_untrained(runs, [teacher for teacher in recipe.teachers if teacher not in before])


def _is_trained(runs: Path, name: str) -> bool:
    return all((runs / name / file).is_file() for file in ("weights.npz", "recipe.json"))
