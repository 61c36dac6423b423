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
    height, width = rgb.shape[:2]
    length = min(height, width)
    top, left = (height - length) // 2, (width - length) // 2
    square = rgb[top : top + length, left : left + length]
    if length == side:
        return square.copy()
    interpolation = cv2.INTER_AREA if length > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (side, side), interpolation=interpolation), dtype=np.uint8)
