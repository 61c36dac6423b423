"""An answer that overrules “not a lesion” says so and never reassures."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from pathlib import Path

import numpy as np
import pytest

from lesionlens.classify import Pipeline
from lesionlens.supervisor.sample import drawing
from services.analysis.results import NETWORKS, Band, Result
from services.stacker.look import NOT_A_LESION, look
from services.stacker.stacking import Stack
from tests.unit.stacker.test_stacking import STACK, answer, stack_document

TENSOR = np.zeros((224, 224, 3), np.uint8)


class Networks:
    """All four say the same."""

    def __init__(self, logit: float) -> None:
        self._logit = logit

    def ask_all(self, tensor: Sized, _deadline_s: float, shown: Mapping[str, int]) -> list[object]:
        self.shown = shown
        assert len(tensor) == max(shown.values())
        return [answer(name, self._logit, turns=shown[name]) for name in NETWORKS]


def test_a_quick_network_may_look_more_often_than_the_others() -> None:
    usual = {"name": "", "version": 3, "sha256": "0" * 64}
    entries = [{**usual, "name": name} for name in NETWORKS]
    entries[0]["turns"] = 4
    stack = Stack.model_validate(stack_document(networks=entries, test_time_augmentation=2))
    networks = Networks(0.0)
    for asked, shown in ((None, (4, 2, 2, 2)), (8, (8, 8, 8, 8))):
        result = look(TENSOR, networks, stack, None, 1.0, turns=asked)  # type: ignore[arg-type]
        assert isinstance(result, Result)
        assert networks.shown == dict(zip(NETWORKS, shown, strict=True))


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


def test_the_command_line_does_not_call_it_low_either(tmp_path: Path) -> None:
    file = tmp_path / "lesion.png"
    file.write_bytes(drawing())
    pipeline = Pipeline(Networks(-5.0), STACK, Unfamiliar(), turns=1)  # type: ignore[arg-type]
    forced = pipeline.classify(file, force=True)
    assert forced.result is not None
    assert forced.result.band is Band.UNSURE
    assert forced.reason.split(";")[-1] == NOT_A_LESION.code
    assert pipeline.classify(file).result is None


def test_without_force_it_is_not_answered() -> None:
    assert looked(-5.0, Unfamiliar(), force=False) == NOT_A_LESION
