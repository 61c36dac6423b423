"""The centre square at 224 × 224, without aliasing."""

import numpy as np
import pytest

from services.preprocessor.imaging.square import centre_square


@pytest.mark.parametrize(("width", "height"), [(224, 224), (400, 300), (300, 400), (64, 90), (1000, 65), (225, 224)])
def test_it_is_always_224_squared(width, height, make_skin):
    assert centre_square(make_skin(width, height)).shape == (224, 224, 3)


def test_the_middle_is_kept_and_the_sides_are_cut():
    pixels = np.zeros((448, 1000, 3), np.uint8)
    pixels[:, 276:724] = 200
    np.testing.assert_array_equal(centre_square(pixels), np.full((224, 224, 3), 200))


def test_scaling_down_averages():
    fine = np.zeros((448, 448, 3), np.uint8)
    fine[::2, ::2] = 200
    np.testing.assert_array_equal(centre_square(fine), np.full((224, 224, 3), 50))


def test_a_224_square_is_returned_as_it_is_but_not_the_same_array(make_skin):
    pixels = make_skin(224, 224)
    square = centre_square(pixels)
    np.testing.assert_array_equal(square, pixels)
    assert not np.shares_memory(square, pixels)
