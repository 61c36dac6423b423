"""Every state is either terminal or some stage's business."""

from __future__ import annotations

import pytest

from services.analysis.states import AnalysisState, stage_of


@pytest.mark.parametrize("state", AnalysisState)
def test_a_state_is_terminal_or_a_stage_has_to_act_on_it(state: AnalysisState) -> None:
    assert (stage_of(state) is None) == state.terminal
