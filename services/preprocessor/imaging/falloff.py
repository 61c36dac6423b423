"""Light that falls off towards the corners, as lenses and ring lamps have it, made even.

Networks take dark corners for a sign of disease, also where they darken gradually. The light is taken from the
brightness of rings around the centre: what is dark on one side only is a shadow or a lesion, and stays.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from services.preprocessor.imaging.exposure import brightness
from services.preprocessor.imaging.outcomes import Pixels
from services.preprocessor.imaging.parameters import ImagingParameters
from services.preprocessor.imaging.square import scaled

Floats = npt.NDArray[np.float64]

#: Side of the copy that brightness is measured in, pixels: coarse enough for hairs to vanish.
_COPY_SIDE = 56
#: Rings from the centre to the corners, and their width in half sides.
_RINGS = 24
_RING_WIDTH = 2**0.5 / _RINGS
#: How far in from where light is evened lies the skin that it is compared with, in half sides.
_COMPARED = 0.2
#: Rows, or columns, of two opposite corners of the copy: an eighth of a side.
_ENDS = (slice(None, _COPY_SIDE // 8), slice(-_COPY_SIDE // 8, None))


def evened(square: Pixels, parameters: ImagingParameters) -> Pixels:
    """A square in even light, uint8 [side, side, 3]: the same array where the light hardly falls off.

    Every pixel is multiplied by what its ring is darker than the skin further in, so that no colour changes.
    """
    copy = brightness(scaled(square, _COPY_SIDE))
    bright = copy.ravel()
    rings = _ring_members(_COPY_SIDE)
    first, last = (round((parameters.falloff_from - nearer) / _RING_WIDTH) for nearer in (_COMPARED, 0))
    light = float(np.median(bright[np.concatenate(rings[first:last])]))
    corners = [copy[rows, columns] for rows in _ENDS for columns in _ENDS]
    lightest_corner = max(float(np.median(corner)) for corner in corners)
    if light <= 0 or lightest_corner >= parameters.falloff_least * light:
        return square
    share = np.array([np.median(bright[members]) / light for members in rings])
    share[:last] = 1.0
    gains = np.maximum.accumulate(1 / np.clip(share, 1 / parameters.falloff_gain_max, 1.0))
    table = np.interp(_radii(len(square)), (np.arange(_RINGS) + 0.5) * _RING_WIDTH, gains).astype(np.float32)
    return np.asarray(cv2.multiply(square, cv2.merge([table] * 3), dtype=cv2.CV_8U), dtype=np.uint8)


@lru_cache(maxsize=2)
def _radii(side: int) -> Floats:
    """Distance of each pixel from the centre in half sides, the same for all eight turns."""
    offsets = (2 * np.arange(side) - (side - 1)) / side
    return np.asarray(np.sqrt(offsets[None, :] ** 2 + offsets[:, None] ** 2))


@lru_cache(maxsize=1)
def _ring_members(side: int) -> tuple[npt.NDArray[np.intp], ...]:
    ring = np.minimum((_radii(side) / _RING_WIDTH).astype(int), _RINGS - 1).ravel()
    return tuple(np.flatnonzero(ring == number) for number in range(_RINGS))
