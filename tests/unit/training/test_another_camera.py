"""A photograph retaken: framed more closely, in another light, sharper, compressed; the same lesion."""

import cv2
import numpy as np

from services.preprocessor.imaging import normalise
from training.another_camera import from_another_camera, through_a_dermatoscope


def lesion(height=240, width=320):
    skin = np.full((height, width, 3), (200, 160, 140), np.uint8)
    return cv2.circle(skin, (width // 2, height // 2), 40, (110, 70, 60), cv2.FILLED, cv2.LINE_AA)


def test_it_is_a_square_framed_up_to_15_percent_closer():
    sides = {from_another_camera(lesion(), np.random.default_rng(seed)).shape for seed in range(40)}
    assert {depth for _, _, depth in sides} == {3}
    assert all(height == width and 204 <= height <= 240 for height, width, _ in sides)
    assert len(sides) > 10


def test_every_colour_is_another_cameras():
    casts = np.array(
        [
            from_another_camera(lesion(), np.random.default_rng(seed))[:8, :8].mean(axis=(0, 1)) / (200, 160, 140)
            for seed in range(40)
        ]
    )
    assert np.all((casts > 0.88) & (casts < 1.12))
    # Not one brightness for all: red, green and blue go apart.
    assert np.ptp(casts, axis=1).max() > 0.1


def test_edges_are_sharper():
    def steepest(rgb):
        return np.abs(np.diff(rgb[..., 1].astype(int), axis=1)).max() / np.ptp(lesion()[..., 1].astype(int))

    assert steepest(from_another_camera(lesion(), np.random.default_rng(1))) > 1.1 * steepest(lesion())


def test_one_seed_takes_one_photograph():
    first, again = (from_another_camera(lesion(), np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, again)


def test_a_dermatoscope_leaves_a_disc_with_less_light_at_its_rim():
    taken = [through_a_dermatoscope(lesion(), np.random.default_rng(seed)) for seed in range(40)]
    assert all(square.shape == (224, 224, 3) for square in taken)
    lit = [np.count_nonzero(square.max(axis=2) > 60) / 224**2 for square in taken]
    assert min(lit) < 0.5
    assert max(lit) > 0.9
    assert all(square[[0, 0, -1, -1], [0, -1, 0, -1]].min() < 16 for square in taken)
    beside = [np.median(square[108:116, 112 + 62 : 112 + 70, 0]) / 200 for square in taken]
    assert min(beside) < 0.8
    assert max(beside) > 0.95


def test_what_is_prepared_has_next_to_nothing_of_the_disc_left():
    darkest = [
        np.percentile(normalise(through_a_dermatoscope(lesion(), np.random.default_rng(seed))).tensor[..., 0], 1)
        for seed in range(40)
    ]
    assert min(darkest) > 80
