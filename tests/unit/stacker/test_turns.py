"""Eight sides of one lesion, from the pose that the picture itself gives."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lesionlens.supervisor.sample import drawing
from services.preprocessor.imaging import normalise
from services.preprocessor.imaging.decode import Photograph, decode
from services.stacker.turns import Turn, pose_of, turned, turned_back

UPRIGHT = Turn(0, mirrored=False)


def noise(side: int = 224) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 255, (side, side, 3), dtype=np.uint8)


def held_in_every_way(picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [np.rot90(held, k) for held in (picture, picture[:, ::-1]) for k in range(4)]


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_turns_are_all_different_and_begin_with_the_pose(count: int) -> None:
    tensor = noise()
    views = turned(tensor, count, UPRIGHT)
    assert views.shape == (count, 224, 224, 3)
    assert np.array_equal(views[0], tensor)
    assert len({view.tobytes() for view in views}) == count


def test_turns_are_a_half_turn_then_mirrors_then_quarters() -> None:
    tensor = noise()
    halves = [tensor, np.rot90(tensor, 2)]
    quarters = [np.rot90(tensor, 1), np.rot90(tensor, 3)]
    expected = [*halves, *map(np.fliplr, halves), *quarters, *map(np.fliplr, quarters)]
    assert np.array_equal(turned(tensor, 8, UPRIGHT), np.stack(expected))


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_the_networks_see_the_same_whichever_way_the_picture_lies(count: int) -> None:
    seen = {turned(picture, count, pose_of(picture)).tobytes() for picture in held_in_every_way(noise())}
    assert len(seen) == 1


def test_a_photograph_that_is_turned_before_it_is_prepared_keeps_its_pose() -> None:
    photograph = decode(drawing())
    assert isinstance(photograph, Photograph)
    prepared = [normalise(np.ascontiguousarray(held)).tensor for held in held_in_every_way(photograph.rgb)]
    seen = np.stack([turned(tensor, 1, pose_of(tensor))[0] for tensor in prepared]).astype(int)
    assert np.abs(seen - seen[0]).mean() < 0.1


def test_in_its_pose_a_picture_is_lightest_at_the_right_and_less_so_at_the_bottom() -> None:
    picture = np.zeros((224, 224, 3), np.uint8)
    picture[10, 40] = 200
    for held in held_in_every_way(picture):
        row, column = np.argwhere(turned(held, 1, pose_of(held))[0].any(axis=2))[0]
        assert (row, column) == (223 - 40, 223 - 10)


def test_a_picture_that_balances_lies_as_it_does() -> None:
    assert pose_of(np.full((224, 224, 3), 90, np.uint8)) == UPRIGHT


def test_attention_of_every_turn_is_brought_back_to_the_photograph() -> None:
    for held in held_in_every_way(noise(7)):
        maps = turned(held, 8, pose_of(held))[..., 0].astype(np.float32)
        for upright in turned_back(maps, pose_of(held)):
            assert np.array_equal(upright, held[..., 0])
