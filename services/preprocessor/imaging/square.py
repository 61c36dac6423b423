"""The centre square of a photograph, at the networks' resolution."""

from __future__ import annotations

import cv2
import numpy as np

from services.preprocessor.imaging.outcomes import Pixels
from services.preprocessor.imaging.parameters import SIDE


def centre_square(rgb: Pixels, side: int = SIDE) -> Pixels:
    """Cut the centre square and scale it to side × side.

    Downwards each target pixel is the mean of the source area it covers, so nothing aliases; upwards the
    interpolation is cubic.

    Args:
        rgb: uint8 [height, width, 3].
        side: of the result, in pixels.

    Returns:
        A new array, uint8 [side, side, 3].
    """
    return scaled(centre_of(rgb), side)


def centre_of(rgb: Pixels) -> Pixels:
    """A view of the centre square of uint8 [height, width, 3], as large as it is."""
    height, width = rgb.shape[:2]
    length = min(height, width)
    top, left = (height - length) // 2, (width - length) // 2
    return rgb[top : top + length, left : left + length]


def scaled(square: Pixels, side: int) -> Pixels:
    """A square of another size, as :func:`centre_square` scales; a new array in any case."""
    if len(square) == side:
        return square.copy()
    interpolation = cv2.INTER_AREA if len(square) > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (side, side), interpolation=interpolation), dtype=np.uint8)
