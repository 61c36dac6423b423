"""An answer that overrules “not a lesion” says so and never reassures."""

from __future__ import annotations

import numpy as np
import pytest

from services.analysis.results import Band, Result
from services.stacker.look import NOT_A_LESION, look
from tests.unit.stacker.test_stacking import STACK, answers

TENSOR = np.zeros((224, 224, 3), np.uint8)


class Networks:
    """All four say the same."""

    def __init__(self, logit: float) -> None:
        self._logit = logit

    def ask_all(self, _tensor: object, _deadline_s: float) -> list[object]:
        return list(answers(*[self._logit] * 4))


class Unfamiliar:
    """Has never seen anything like it."""

    def is_lesion(self, _answers: object) -> bool:
        return False


def looked(logit: float, familiarity: Unfamiliar | None, *, force: bool) -> object:
    return look(TENSOR, Networks(logit), STACK, familiarity, 1.0, force=force, turns=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("logit", "known", "unknown"),
    [(-5.0, Band.LOW, Band.UNSURE), (0.0, Band.UNSURE, Band.UNSURE), (5.0, Band.HIGH, Band.HIGH)],
)
def test_what_is_not_known_is_never_called_low(logit: float, known: Band, unknown: Band) -> None:
    familiar, forced = looked(logit, None, force=True), looked(logit, Unfamiliar(), force=True)
    assert isinstance(familiar, Result)
    assert isinstance(forced, Result)
    assert (familiar.band, familiar.doubts) == (known, ())
    assert (forced.band, forced.doubts) == (unknown, (NOT_A_LESION,))
    assert forced.probability == familiar.probability


def test_without_force_it_is_not_answered() -> None:
    assert looked(-5.0, Unfamiliar(), force=False) == NOT_A_LESION
