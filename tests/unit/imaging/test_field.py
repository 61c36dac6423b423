"""What a dermatoscope's round frame, or bars, leave of a photograph."""

import cv2
import numpy as np
import pytest

from services.preprocessor.imaging import DEFAULT, normalise
from services.preprocessor.imaging.field import lit_square
from services.preprocessor.imaging.outcomes import WHOLE_SQUARE
from services.preprocessor.imaging.square import centre_square

BLACK = 6


def framed(pixels, radius, at=(0.5, 0.5), flat=1.0, blur=3):
    """The photograph as a dermatoscope leaves it; `radius` and `at` in sides of the shorter side and of the picture."""
    height, width = pixels.shape[:2]
    across = radius * min(height, width)
    lit = np.zeros((height, width), np.float32)
    centre = (round(at[0] * width), round(at[1] * height))
    cv2.ellipse(lit, centre, (round(across), round(across * flat)), 0, 0, 360, 1.0, -1)
    lit = cv2.GaussianBlur(lit, (0, 0), blur)[..., None]
    return np.rint(pixels * lit + BLACK * (1 - lit)).astype(np.uint8)


def barred(pixels, top=0, bottom=0, left=0, right=0):
    height, width = pixels.shape[:2]
    pixels = pixels.copy()
    pixels[:top], pixels[height - bottom :], pixels[:, :left], pixels[:, width - right :] = [BLACK] * 4
    return pixels


def stars(pixels):
    """A black square with one lit pixel in each of three quarters."""
    black = np.zeros((224, 224, 3), np.uint8)
    black[[50, 60, 170], [40, 180, 60]] = pixels[0, 0]
    return black


def darkest(square):
    return int(square.max(axis=2).min())


@pytest.fixture
def plain(make_skin):
    """Skin without a lesion, so that nothing but a frame is dark."""
    return make_skin(600, 600, lesion=None)


@pytest.mark.parametrize("radius", [0.25, 0.4, 0.5, 0.6, 0.66])
@pytest.mark.parametrize("flat", [1.0, 0.8])
def test_nothing_of_a_round_frame_is_left(plain, radius, flat):
    square, _ = lit_square(framed(plain, radius, flat=flat), DEFAULT)
    assert darkest(centre_square(framed(plain, radius, flat=flat))) < DEFAULT.field_dark
    assert darkest(square) > 150
    assert square.shape == (224, 224, 3)


def test_the_square_is_drawn_around_the_disc_wherever_it_lies(plain):
    _, frame = lit_square(framed(plain, 0.3, at=(0.4, 0.6)), DEFAULT)
    assert frame.side == pytest.approx(0.9 * 0.6, abs=0.02)
    assert (frame.left + frame.side / 2, frame.top + frame.side / 2) == pytest.approx((0.4, 0.6), abs=0.01)


def test_it_never_leaves_the_photograph(plain):
    _, frame = lit_square(framed(plain, 0.45, at=(0.35, 0.5)), DEFAULT)
    assert min(frame.left, frame.top) >= 0
    assert max(frame.left, frame.top) + frame.side <= 1


def test_a_small_disc_is_cut_out_of_the_whole_photograph_and_not_of_a_small_copy(make_skin):
    fine = make_skin(1100, 1100, lesion=None)
    fine[::4] -= 60  # lines that a copy of 224 pixels cannot show
    square, _ = lit_square(framed(fine, 0.11 * 1.6, blur=1), DEFAULT)
    assert square[100:124, 100:124, 0].std() > 15


def test_the_corners_show_the_skin_inside_the_rim_once_more(plain):
    right = plain.copy()
    right[:, 300:] = (150, 120, 170)
    square, _ = lit_square(framed(right, 0.5), DEFAULT)
    np.testing.assert_allclose(square[:12, -12:].mean(axis=(0, 1)), (150, 120, 170), atol=8)
    np.testing.assert_allclose(square[:12, :12].mean(axis=(0, 1)), plain.mean(axis=(0, 1)), atol=8)


@pytest.mark.parametrize(
    ("bars", "side"),
    [({"top": 60, "bottom": 60}, 0.8), ({"left": 90}, 0.85), ({"top": 30, "bottom": 30, "left": 60}, 0.9)],
)
def test_bars_are_cut_off(plain, bars, side):
    square, frame = lit_square(barred(plain, **bars), DEFAULT)
    assert frame.side == pytest.approx(side, abs=0.01)
    assert darkest(square) > 150


def test_a_clock_in_a_bar_does_not_keep_it(plain):
    pixels = barred(plain, bottom=60)
    pixels[565:580, 560:580] = 250
    square, _ = lit_square(pixels, DEFAULT)
    assert darkest(square) > 150


@pytest.mark.parametrize(
    "drawn",
    [
        pytest.param(lambda skin: skin, id="nothing dark"),
        pytest.param(lambda skin: cv2.circle(skin, (300, 300), 120, (20, 12, 10), -1), id="a black lesion"),
        pytest.param(lambda skin: cv2.circle(skin, (560, 300), 140, (20, 12, 10), -1), id="one that is cut off"),
        pytest.param(lambda skin: cv2.circle(skin, (600, 600), 260, (20, 12, 10), -1), id="a shadow in one corner"),
        pytest.param(lambda skin: cv2.fillPoly(skin, [np.int32([(0, 0), (600, 0), (0, 300)])], (9, 9, 9)), id="a limb"),
        pytest.param(lambda skin: cv2.line(skin, (0, 80), (600, 500), (20, 15, 12), 12), id="a hair across"),
        pytest.param(lambda skin: skin // 8, id="too dark altogether"),
        pytest.param(stars, id="next to nothing lit"),
        pytest.param(lambda skin: framed(skin, 0.08), id="a lamp"),
    ],
)
def test_what_is_no_frame_stays(plain, drawn):
    pixels = drawn(plain.copy())
    square, frame = lit_square(pixels, DEFAULT)
    assert frame == WHOLE_SQUARE
    np.testing.assert_array_equal(square, centre_square(pixels))


def test_a_scale_and_a_hair_across_the_rim_do_not_hide_it(plain):
    pixels = framed(plain, 0.45)
    for y in range(120, 480, 12):
        cv2.line(pixels, (36, y), (70, y), (200, 200, 200), 2)
    cv2.line(pixels, (0, 100), (300, 250), (25, 18, 15), 5)
    _, frame = lit_square(pixels, DEFAULT)
    assert frame.side == pytest.approx(0.81, abs=0.02)


def test_a_framed_photograph_is_prepared_nearly_as_the_skin_in_it(make_skin):
    pixels = make_skin(600, 600)
    middle = pixels[30:570, 30:570]
    told, of_middle = normalise(framed(pixels, 0.5)), normalise(middle)
    assert np.abs(told.tensor.astype(int) - of_middle.tensor).mean() < 4
    assert np.abs(normalise(centre_square(framed(pixels, 0.5))).tensor.astype(int) - of_middle.tensor).mean() < 4
    assert told.frame.side == pytest.approx(0.9, abs=0.01)
    assert told.mask_share == pytest.approx(of_middle.mask_share, abs=0.02)


def test_a_turned_photograph_is_framed_as_well(plain):
    pixels = framed(plain, 0.3, at=(0.42, 0.55), flat=0.9)
    square, frame = lit_square(pixels, DEFAULT)
    turned, turned_frame = lit_square(np.ascontiguousarray(np.rot90(pixels)), DEFAULT)
    assert turned_frame.side == pytest.approx(frame.side, abs=2e-3)
    assert (turned_frame.left, turned_frame.top) == pytest.approx((frame.top, 1 - frame.left - frame.side), abs=2e-3)
    assert np.abs(np.rot90(square).astype(int) - turned).mean() < 1.5
