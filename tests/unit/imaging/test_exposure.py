"""Photographs that are darker than those the networks know."""

import numpy as np
import pytest

from services.preprocessor.imaging import DEFAULT, normalise
from services.preprocessor.imaging.exposure import exposed, light_of


def darkened(pixels, share):
    return np.rint(pixels * share).astype(np.uint8)


@pytest.fixture
def square(make_skin):
    return make_skin(224, 224)


def test_the_light_is_the_skins_whatever_lies_on_it(make_skin):
    skin_alone, with_lesion = (light_of(make_skin(224, 224, lesion=lesion)) for lesion in (None, (30, 20, 20)))
    assert skin_alone == pytest.approx(210, abs=3)
    assert with_lesion == pytest.approx(skin_alone, abs=2)
    assert light_of(np.full((224, 224, 3), (7, 90, 20), np.uint8)) == 90


@pytest.mark.parametrize("share", [0.7, 0.5, 0.3])
def test_what_is_dark_becomes_as_bright_as_what_the_networks_know(square, share):
    bright = exposed(darkened(square, share), DEFAULT)
    assert light_of(bright) == pytest.approx(DEFAULT.least_light, abs=2)
    np.testing.assert_allclose(bright / light_of(bright), square / light_of(square), atol=0.02)


def test_what_is_bright_enough_stays(square):
    assert exposed(square, DEFAULT) is square


def test_black_stays_black():
    black = np.zeros((224, 224, 3), np.uint8)
    np.testing.assert_array_equal(exposed(black, DEFAULT), black)


def test_two_photographs_of_one_lesion_in_little_light_are_prepared_alike(square):
    one, other = (normalise(darkened(square, share)).tensor.astype(int) for share in (0.7, 0.4))
    assert np.abs(one - other).mean() < 2


def test_what_is_judged_is_the_photograph_as_it_was_taken(square):
    assert normalise(darkened(square, 0.1)).quality.brightness < DEFAULT.dark_mean
