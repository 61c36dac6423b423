"""Eight sides of one lesion."""

from __future__ import annotations

import numpy as np
import pytest

from services.stacker.turns import turned, turned_back


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_turns_are_all_different_and_begin_with_the_upright_one(count: int) -> None:
    tensor = np.random.default_rng(1).integers(0, 255, (224, 224, 3), dtype=np.uint8)
    views = turned(tensor, count)
    assert views.shape == (count, 224, 224, 3)
    assert np.array_equal(views[0], tensor)
    assert len({view.tobytes() for view in views}) == count


def test_turns_are_a_half_turn_then_mirrors_then_quarters() -> None:
    tensor = np.random.default_rng(3).integers(0, 255, (224, 224, 3), dtype=np.uint8)
    halves = [tensor, np.rot90(tensor, 2)]
    quarters = [np.rot90(tensor, 1), np.rot90(tensor, 3)]
    expected = [*halves, *map(np.fliplr, halves), *quarters, *map(np.fliplr, quarters)]
    assert np.array_equal(turned(tensor, 8), np.stack(expected))


def test_attention_of_every_turn_is_brought_back_upright() -> None:
    grid = np.random.default_rng(2).integers(0, 255, (7, 7, 3), dtype=np.uint8)
    maps = turned(grid, 8)[..., 0].astype(np.float32)
    for upright in turned_back(maps):
        assert np.array_equal(upright, grid[..., 0])
