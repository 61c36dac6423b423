"""The colour of the light is taken out, within bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.preprocessor.imaging import DEFAULT
from services.preprocessor.imaging.colour_constancy import channel_gains, shades_of_gray


@given(
    level=st.integers(60, 150),
    tint=st.tuples(*[st.floats(0.8, 1.25)] * 3),
)
def test_a_tinted_gray_patch_becomes_gray(level, tint):
    patch = np.tile(np.rint(level * np.asarray(tint)).astype(np.uint8), (32, 32, 1))
    balanced = shades_of_gray(patch, DEFAULT)
    assert int(balanced.max()) - int(balanced.min()) <= 1
    assert abs(float(balanced.mean()) - float(patch.mean())) <= 1


@pytest.mark.parametrize("tint", [(1.2, 1.0, 0.8), (0.85, 1.0, 1.2), (1.0, 0.85, 1.0)])
def test_the_same_skin_under_coloured_light_becomes_the_same_colour(tint, make_skin):
    skin = make_skin(skin=(180, 150, 140), lesion=(100, 70, 60)).astype(float)
    plain = shades_of_gray(np.rint(skin).astype(np.uint8), DEFAULT).astype(float)
    tinted_input = np.rint(np.clip(skin * tint, 0, 255)).astype(np.uint8)
    tinted = shades_of_gray(tinted_input, DEFAULT).astype(float)
    before = np.abs(tinted_input / tinted_input.mean() - skin / skin.mean()).mean()
    after = np.abs(tinted / tinted.mean() - plain / plain.mean()).mean()
    assert after < before / 10


def test_gray_images_are_left_alone():
    gray = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    np.testing.assert_array_equal(shades_of_gray(gray, DEFAULT), gray)


@given(colour=st.tuples(*[st.integers(0, 255)] * 3))
def test_gains_stay_within_bounds(colour):
    gains = channel_gains(np.tile(np.asarray(colour, np.uint8), (8, 8, 1)), DEFAULT)
    assert (gains >= DEFAULT.gain_min).all()
    assert (gains <= DEFAULT.gain_max).all()


def test_a_black_channel_does_not_blow_up_the_others():
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 180
    np.testing.assert_array_equal(shades_of_gray(red, DEFAULT), red)


def test_correcting_twice_changes_little(skin):
    once = shades_of_gray(skin, DEFAULT)
    twice = shades_of_gray(once, DEFAULT)
    assert np.abs(once.astype(int) - twice).max() <= 2
