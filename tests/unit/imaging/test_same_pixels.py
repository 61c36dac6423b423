"""The networks were trained on these very pixels: quicker code must give the same ones, to the last bit."""

import hashlib
import io

import cv2
import numpy as np
import pytest
from PIL import Image

from services.preprocessor.imaging import DEFAULT, SIDE, normalise, prepare_lesion
from services.preprocessor.imaging.decode import decode
from services.preprocessor.imaging.hair import enclosed_meshes, hair_response
from services.preprocessor.imaging.square import centre_square


def training_square(seed, hairs):
    """A made 224 px square in whole numbers alone, so that it is the same on every machine."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-9, 10, (28, 28, 3))
    square = np.array((205, 165, 145)) + np.kron(coarse, np.ones((8, 8, 1), int)) + rng.integers(-4, 5, (SIDE, SIDE, 3))
    square = square.clip(0, 255).astype(np.uint8)
    cv2.ellipse(square, (112, 108), (40 + 3 * seed, 30), 17 * seed, 0, 360, (110, 70, 60), cv2.FILLED)
    for _ in range(hairs):
        ends = rng.integers(0, SIDE, 4).tolist()
        cv2.line(square, tuple(ends[:2]), tuple(ends[2:]), (40, 30, 25), int(rng.integers(1, 4)))
    return square


@pytest.mark.parametrize(
    ("seed", "hairs", "digest", "share"),
    [
        (1, 0, "bfab9d3a8a90159f", 0.0),
        (2, 3, "0b5431d67f9fb111", 0.022700095663265307),
        (3, 6, "6b813be6045a874d", 0.06859853316326531),
        (4, 60, "9957c272d1d3e622", 0.13725685586734693),
    ],
)
def test_training_squares_stay_what_they_were(seed, hairs, digest, share):
    lesion = normalise(training_square(seed, hairs))
    assert hashlib.sha256(lesion.tensor.tobytes()).hexdigest()[:16] == digest
    assert lesion.hair_share == pytest.approx(share, abs=1e-9)


def test_a_lossless_file_of_a_square_gives_the_pixels_of_the_square():
    square = training_square(3, 6)
    file = io.BytesIO()
    Image.fromarray(square).save(file, "PNG")
    np.testing.assert_array_equal(prepare_lesion(file.getvalue(), force=True).tensor, normalise(square).tensor)


def test_a_large_jpeg_decoded_at_reduced_scale_differs_by_less_than_its_own_compression_does():
    """Mean absolute difference in grey levels of the 224 px square; JPEG at quality 90 itself moves it by about 0.5."""
    square = training_square(2, 0)
    large = np.asarray(Image.fromarray(square).resize((3000, 3000), Image.Resampling.BICUBIC))
    file = io.BytesIO()
    Image.fromarray(large).save(file, "JPEG", quality=92)
    with Image.open(io.BytesIO(file.getvalue())) as whole:
        every_pixel = centre_square(np.asarray(whole))
    reduced = decode(file.getvalue())
    assert reduced.rgb.shape[0] == 750
    assert np.abs(centre_square(reduced.rgb).astype(int) - every_pixel).mean() < 0.5


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_strips_do_not_show(mode, monkeypatch):
    """Small pictures are converted at once, large ones strip by strip: the pixels are the same."""
    from services.preprocessor.imaging import srgb

    image = Image.fromarray(training_square(1, 2)).convert(mode)
    at_once = srgb.rgb_pixels(image)
    monkeypatch.setattr(srgb, "STRIP_PIXELS", 5 * SIDE)
    np.testing.assert_array_equal(srgb.rgb_pixels(image), at_once)


def test_holes_are_counted_in_each_component():
    picture = np.zeros((40, 60), np.uint8)
    cv2.rectangle(picture, (2, 2), (20, 20), 1)
    cv2.line(picture, (2, 10), (20, 10), 1)
    cv2.circle(picture, (45, 20), 10, 1)
    picture[35, 3] = 1
    count, labels = cv2.connectedComponents(picture, connectivity=8)
    assert sorted(enclosed_meshes(labels, count)[1:]) == [0, 1, 2]


def test_hair_is_looked_for_in_the_same_time_whatever_there_is():
    """The response is a fixed number of filters, and painting is bounded by the cap: above it nothing is painted."""
    much = normalise(training_square(4, 200))
    assert much.hair_share <= DEFAULT.hair_share_cap
    grey = cv2.cvtColor(training_square(4, 200), cv2.COLOR_RGB2GRAY)
    assert hair_response(grey, DEFAULT).shape == (SIDE, SIDE)
