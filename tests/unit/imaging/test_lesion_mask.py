"""The lesion is found where it is, or not at all."""

import numpy as np
import pytest

from services.preprocessor.imaging import DEFAULT, normalise
from services.preprocessor.imaging.lesion_mask import lesion_mask


def overlap(one, other):
    """Jaccard index of two masks, 0–1."""
    return (one & other).sum() / (one | other).sum()


def disc(centre, radius):
    rows, columns = np.mgrid[0:224, 0:224]
    return np.hypot(columns - centre[0], rows - centre[1]) <= radius


@pytest.mark.parametrize(
    "colours", [((205, 165, 150), (110, 70, 55)), ((120, 85, 65), (60, 38, 30)), ((210, 180, 170), (190, 90, 90))]
)
@pytest.mark.parametrize("centre", [(112, 112), (90, 130)])
def test_a_lesion_is_outlined(colours, centre):
    skin, lesion = colours
    where = disc(centre, 40)
    square = np.where(where[..., None], np.asarray(lesion, np.uint8), np.asarray(skin, np.uint8))
    assert overlap(lesion_mask(square, DEFAULT), where) > 0.85


def test_of_two_spots_the_central_one_is_meant():
    square = np.full((224, 224, 3), (200, 165, 150), np.uint8)
    middle = disc((112, 112), 25)
    square[middle | disc((25, 25), 25)] = (110, 70, 55)
    assert overlap(lesion_mask(square, DEFAULT), middle) > 0.8


def test_holes_are_part_of_the_lesion():
    square = np.full((224, 224, 3), (200, 165, 150), np.uint8)
    square[disc((112, 112), 60)] = (110, 70, 55)
    square[disc((112, 112), 15)] = (200, 165, 150)
    assert overlap(lesion_mask(square, DEFAULT), disc((112, 112), 60)) > 0.9


@pytest.mark.parametrize("grain", [0.0, 3.0])
def test_bare_skin_has_no_lesion(grain, make_skin):
    assert not lesion_mask(make_skin(224, 224, lesion=None, grain=grain), DEFAULT).any()


def test_the_mask_is_never_painted_into_the_tensor(skin):
    lesion = normalise(skin)
    assert lesion.mask.any()
    assert lesion.mask_share == pytest.approx(lesion.mask.mean())
    inside, outside = lesion.tensor[lesion.mask], lesion.tensor[~lesion.mask]
    assert inside.std() > 0
    assert outside.min() > 50
