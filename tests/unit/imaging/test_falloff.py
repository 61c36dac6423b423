"""Light that falls off towards the corners."""

import cv2
import numpy as np
import pytest

from services.preprocessor.imaging import DEFAULT, normalise
from services.preprocessor.imaging.falloff import evened, evened_disc
from services.stacker.turns import pose_of, turned

OFFSETS = (2 * np.arange(224) - 223) / 224
DISTANCE = np.hypot(OFFSETS[:, None], OFFSETS[None, :])


def fallen_off(square, by, power=4):
    return np.rint(square * (1 - by * (DISTANCE / 2**0.5) ** power)[..., None]).astype(np.uint8)


@pytest.fixture
def square(make_skin):
    return make_skin(224, 224)


@pytest.mark.parametrize(("by", "power"), [(0.8, 4), (0.75, 4), (0.75, 2), (0.85, 3)])
def test_what_is_darker_on_every_side_becomes_as_light_as_the_skin_further_in(square, by, power):
    even = evened(fallen_off(square, by, power), DEFAULT)
    far = DISTANCE > 0.7
    was = np.abs(fallen_off(square, by, power).astype(int) - square)[far].mean()
    assert np.abs(even.astype(int) - square)[far].mean() < was / 2.5
    assert even[2, 2].mean() == pytest.approx(square[2:12, 2:12].mean(), rel=0.2)


def test_the_middle_and_the_colours_stay(square):
    fallen = fallen_off(square, 0.8)
    even = evened(fallen, DEFAULT)
    np.testing.assert_array_equal(even[DISTANCE < 0.6], fallen[DISTANCE < 0.6])
    assert not np.array_equal(even, fallen)
    hues = [corner[:16, :16].reshape(-1, 3).mean(axis=0) for corner in (even, fallen)]
    np.testing.assert_allclose(hues[0] / hues[0].sum(), hues[1] / hues[1].sum(), atol=0.005)


@pytest.mark.parametrize(
    "drawn",
    [
        pytest.param(lambda skin: skin, id="even light"),
        pytest.param(lambda skin: fallen_off(skin, 0.25), id="as much falloff as the networks know"),
        pytest.param(lambda skin: cv2.circle(skin, (30, 30), 90, (70, 45, 40), -1), id="a lesion in a corner"),
        pytest.param(lambda skin: cv2.circle(skin, (112, 112), 90, (70, 45, 40), -1), id="a large lesion"),
        pytest.param(
            lambda skin: np.rint(skin * np.linspace(1, 0.3, 224)[None, :, None]).astype(np.uint8), id="a side"
        ),
        pytest.param(lambda skin: skin // 200, id="black"),
    ],
)
def test_everything_else_stays(square, drawn):
    pixels = drawn(square.copy())
    assert evened(pixels, DEFAULT) is pixels


@pytest.mark.parametrize("by", [0.2, 0.7])
def test_a_disc_is_evened_up_to_its_rim(square, by):
    def distances(side):
        offsets = (2 * np.arange(side) - (side - 1)) / side
        return np.hypot(offsets[:, None] - 0.1, offsets[None, :]) / 0.8

    inside, near_the_rim = distances(224) < 0.9, (distances(224) > 0.8) & (distances(224) < 0.95)
    fallen = np.where((distances(224) < 1)[..., None], square * (1 - by * distances(224) ** 4)[..., None], 3)
    disc = np.rint(fallen).clip(0).astype(np.uint8)
    even = evened_disc(disc, distances, DEFAULT)
    assert np.abs(even[inside].astype(int) - square[inside]).mean() < 12
    was, now = (np.abs(pixels[near_the_rim].astype(int) - square[near_the_rim]).mean() for pixels in (disc, even))
    assert now < was / 2


def test_a_disc_of_even_light_stays(square):
    even = evened_disc(square, lambda side: np.full((side, side), 0.5), DEFAULT)
    np.testing.assert_array_equal(even, square)
    np.testing.assert_array_equal(evened_disc(square, lambda side: np.full((side, side), 3.0), DEFAULT), square)


def test_a_photograph_with_falloff_is_prepared_nearly_as_one_without(square):
    one, other = (normalise(pixels).tensor.astype(int) for pixels in (square, fallen_off(square, 0.8)))
    assert np.abs(one - other).mean() < 4


def test_a_turned_photograph_is_evened_to_the_same_bit(square):
    fallen = fallen_off(square, 0.8)
    prepared = [
        normalise(np.ascontiguousarray(np.rot90(view, k))).tensor
        for view in (fallen, fallen[:, ::-1])
        for k in range(4)
    ]
    posed = {turned(tensor, 1, pose_of(tensor))[0].tobytes() for tensor in prepared}
    assert len(posed) == 1
