"""Photographs that are darker than those which the networks know, made as bright as these.

Skin is photographed in all kinds of light, and colour constancy keeps the brightness. With six tenths of its light, one
test photograph in eleven was decided otherwise.
"""

from __future__ import annotations

import cv2
import numpy as np

from services.preprocessor.imaging.outcomes import Pixels
from services.preprocessor.imaging.parameters import ImagingParameters


def light_of(square: Pixels) -> int:
    """The grey level, of each pixel's brightest channel, that one pixel in ten exceeds: skin, not the lesion on it."""
    brightest = brightness(square)
    below = np.cumsum(cv2.calcHist([brightest], [0], None, [256], [0, 256]).ravel())
    return int(np.searchsorted(below, 0.9 * brightest.size))


def brightness(square: Pixels) -> Pixels:
    """The brightest channel of each pixel, uint8 [height, width]."""
    red, green, blue = cv2.split(square)
    return np.asarray(cv2.max(cv2.max(red, green), blue), dtype=np.uint8)


def exposed(square: Pixels, parameters: ImagingParameters) -> Pixels:
    """A square, uint8 [h, w, 3], with at least `least_light`: the same array where it has that."""
    light = light_of(square)
    if light >= parameters.least_light:
        return square
    gain = min(parameters.least_light / max(light, 1), parameters.exposure_gain_max)
    return np.asarray(cv2.convertScaleAbs(square, alpha=gain), dtype=np.uint8)
