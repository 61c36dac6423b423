"""Noise goes, edges stay where they are."""

import numpy as np

from services.preprocessor.imaging import DEFAULT
from services.preprocessor.imaging.denoise import denoise


def test_noise_is_at_least_halved():
    noise = np.random.default_rng(1).normal(0, 6, (224, 224, 3))
    noisy = np.clip(np.rint(140 + noise), 0, 255).astype(np.uint8)
    assert denoise(noisy, DEFAULT).std() < noisy.std() / 2


def test_single_wrong_pixels_vanish():
    speck = np.full((50, 50, 3), 140, np.uint8)
    speck[20, 30] = 255
    np.testing.assert_array_equal(denoise(speck, DEFAULT), np.full((50, 50, 3), 140))


def test_a_straight_edge_stays_as_sharp_as_it_was():
    edge = np.full((50, 50, 3), 60, np.uint8)
    edge[:, 25:] = 180
    np.testing.assert_array_equal(denoise(edge, DEFAULT), edge)
