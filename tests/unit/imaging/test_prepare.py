"""The one way from a photograph to what the networks see."""

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.preprocessor.imaging import DEFAULT, ImagingParameters, normalise, prepare_lesion


def difference(one, other):
    return np.abs(one.astype(int) - other.astype(int)).mean()


@given(
    rgb=st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(
        lambda size: arrays(np.uint8, (*size, 3), elements=st.integers(0, 255))
    )
)
@settings(deadline=None, max_examples=30)
def test_any_pixels_give_the_networks_what_they_take(rgb):
    kept = rgb.copy()
    lesion = normalise(rgb)
    assert lesion.tensor.shape == (224, 224, 3)
    assert lesion.tensor.dtype == np.uint8
    assert lesion.tensor.flags.c_contiguous
    assert lesion.mask.shape == (224, 224)
    assert lesion.mask.dtype == np.bool_
    assert 0 <= lesion.hair_share <= DEFAULT.hair_share_cap
    assert 0 <= lesion.mask_share <= DEFAULT.mask_share_max
    assert lesion.source_size == (rgb.shape[1], rgb.shape[0])
    assert all(np.isfinite(value) for value in dataclasses.astuple(lesion.quality))
    np.testing.assert_array_equal(rgb, kept)


@pytest.mark.parametrize("size", [(224, 224), (300, 300), (640, 480), (100, 120)])
def test_the_input_is_never_written_to_and_never_returned(size, make_skin):
    pixels = make_skin(*size)
    pixels.flags.writeable = False
    assert not np.shares_memory(normalise(pixels).tensor, pixels)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
    ],
)
def test_other_arrays_are_an_error(wrong):
    with pytest.raises(ValueError, match="expected uint8"):
        normalise(wrong)


def test_it_is_deterministic(skin):
    np.testing.assert_array_equal(normalise(skin).tensor, normalise(skin).tensor)


def test_it_leaves_opencv_as_it_was(skin):
    before = cv2.getNumThreads(), cv2.useOptimized()
    normalise(skin)
    assert (cv2.getNumThreads(), cv2.useOptimized()) == before


def test_training_and_serving_see_the_same_pixels(make_skin, encode):
    pixels = make_skin(400, 300)
    np.testing.assert_array_equal(prepare_lesion(encode(pixels, "PNG")).tensor, normalise(pixels).tensor)


def test_a_neutral_photo_without_hair_stays_close_to_itself(make_skin):
    pixels = make_skin(224, 224, skin=(170, 168, 166), lesion=(90, 88, 86))
    assert difference(normalise(pixels).tensor, pixels) < 2


def test_normalising_twice_changes_little(skin):
    once = normalise(skin).tensor
    assert difference(normalise(once).tensor, once) < 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=8)
@given(seed=st.integers(0, 1000), x=st.floats(0.3, 0.7), y=st.floats(0.3, 0.7), hairs=st.integers(0, 4))
def test_turning_or_mirroring_the_photo_turns_or_mirrors_the_result(seed, x, y, hairs, make_skin):
    pixels = make_skin(500, 500, at=(x, y), seed=seed)
    rng = np.random.default_rng(seed)
    for ends in rng.integers(0, 500, (hairs, 4)).tolist():
        cv2.line(pixels, tuple(ends[:2]), tuple(ends[2:]), (40, 30, 25), 5, cv2.LINE_AA)
    upright = normalise(pixels)
    for move in (np.rot90, np.fliplr, np.flipud, lambda a: np.rot90(a, 2), lambda a: np.rot90(a, 3)):
        moved = normalise(np.ascontiguousarray(move(pixels)))
        assert difference(moved.tensor, move(upright.tensor)) < 0.1
        assert (moved.mask ^ move(upright.mask)).mean() < 0.01
        assert moved.hair_share == pytest.approx(upright.hair_share, abs=0.003)
        assert moved.quality.sharpness == pytest.approx(upright.quality.sharpness, rel=0.01)


def test_all_steps_reach_the_tensor(make_skin):
    tinted = make_skin(224, 224, skin=(220, 150, 120), lesion=None)
    tinted[110:113] = (40, 30, 25)
    tinted[60, 60] = (20, 255, 20)
    lesion = normalise(tinted)
    neighbours = lesion.tensor[58:63, 58:63].reshape(-1, 3).astype(int)
    assert np.ptp(lesion.tensor.reshape(-1, 3).mean(axis=0)) < 10  # neutral light
    assert lesion.hair_share > 0.01
    assert lesion.tensor[105:118].min() > 120  # no hair
    assert np.ptp(neighbours, axis=0).max() < 15  # no speck
    still_tinted = normalise(tinted, ImagingParameters(gain_min=1.0, gain_max=1.0)).tensor
    assert np.ptp(still_tinted.reshape(-1, 3).mean(axis=0)) > 60


def test_outcomes_cannot_be_changed(skin):
    with pytest.raises(dataclasses.FrozenInstanceError):
        normalise(skin).hair_share = 1.0
