"""Light that falls off towards the corners, as lenses and ring lamps have it, made even.

Networks take dark corners for a sign of disease, also where they darken gradually. The light is taken from the
brightness of rings around the centre: what is dark on one side only is a shadow or a lesion, and stays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from services.preprocessor.imaging.exposure import brightness
from services.preprocessor.imaging.outcomes import Pixels
from services.preprocessor.imaging.parameters import ImagingParameters
from services.preprocessor.imaging.square import scaled

Floats = npt.NDArray[np.float64]
#: Places of pixels, ring by ring from the centre.
Rings: TypeAlias = tuple[npt.NDArray[np.intp], ...]

#: Side of the copy that brightness is measured in, pixels: coarse enough for hairs to vanish.
_COPY_SIDE = 56
#: Rings from the centre to the corners, and their width in half sides.
_RINGS = 24
_RING_WIDTH = 2**0.5 / _RINGS
#: How far in from where light is evened lies the skin that it is compared with, in half sides.
_COMPARED = 0.2
#: Rows, or columns, of two opposite corners of the copy: an eighth of a side.
_ENDS = (slice(None, _COPY_SIDE // 8), slice(-_COPY_SIDE // 8, None))
#: Farther than any ring.
_BEYOND = 2.0


def evened(square: Pixels, parameters: ImagingParameters) -> Pixels:
    """A square in even light, uint8 [side, side, 3]: the same array where the light hardly falls off.

    Every pixel is multiplied by what its ring is darker than the skin further in, so that no colour changes.
    """
    copy, rings = brightness(scaled(square, _COPY_SIDE)), _rings_of_a_square()
    light = _light(copy, rings, parameters)
    corners = [float(np.median(copy[rows, columns])) for rows in _ENDS for columns in _ENDS]
    if max(corners) >= parameters.falloff_least * light:
        return square
    return _multiplied(square, _gains(copy, rings, light, parameters), _radii(len(square)))


def evened_disc(square: Pixels, distances: Callable[[int], Floats], parameters: ImagingParameters) -> Pixels:
    """The same for a disc on black, however little its light falls off: networks know no discs.

    Args:
        square: uint8 [side, side, 3].
        distances: of the pixels of a square of so many a side, from the disc's centre, 1 at its rim.
        parameters: at which distance the light begins to be evened.

    Returns:
        A new array; what lies beyond the disc is multiplied as its rim is.
    """
    copy, far = brightness(scaled(square, _COPY_SIDE)), distances(_COPY_SIDE)
    rings = _rings(np.where(far < 1, far, _BEYOND))
    light = _light(copy, rings, parameters)
    gains = _gains(copy, rings, light, parameters) if light > 0 else np.ones(_RINGS)
    return _multiplied(square, gains, distances(len(square)))


def _light(copy: Pixels, rings: Rings, parameters: ImagingParameters) -> float:
    """Brightness of the skin that the rest is compared with, 0 where there is none."""
    first, last = (round((parameters.falloff_from - nearer) / _RING_WIDTH) for nearer in (_COMPARED, 0))
    compared = copy.ravel()[np.concatenate(rings[first:last])]
    return float(np.median(compared)) if compared.size else 0.0


def _gains(copy: Pixels, rings: Rings, light: float, parameters: ImagingParameters) -> Floats:
    """By what each ring is multiplied: 1 up to where light is evened, and never less than a ring further in."""
    start, bright = round(parameters.falloff_from / _RING_WIDTH), copy.ravel()
    shares = [float(np.median(bright[ring])) / light if ring.size else 1.0 for ring in rings[start:]]
    clipped = np.clip([1.0] * start + shares, 1 / parameters.falloff_gain_max, 1.0)
    return np.asarray(np.maximum.accumulate(1 / clipped))


def _multiplied(square: Pixels, gains: Floats, far: Floats) -> Pixels:
    table = np.interp(far, (np.arange(_RINGS) + 0.5) * _RING_WIDTH, gains).astype(np.float32)
    return np.asarray(cv2.multiply(square, cv2.merge([table] * 3), dtype=cv2.CV_8U), dtype=np.uint8)


def _rings(far: Floats) -> Rings:
    """Places of the pixels of each ring."""
    number = (far / _RING_WIDTH).astype(int).ravel()
    return tuple(np.flatnonzero(number == ring) for ring in range(_RINGS))


@lru_cache(maxsize=1)
def _rings_of_a_square() -> Rings:
    return _rings(_radii(_COPY_SIDE))


@lru_cache(maxsize=2)
def _radii(side: int) -> Floats:
    """Distance of each pixel from the centre in half sides, the same for all eight turns."""
    offsets = (2 * np.arange(side) - (side - 1)) / side
    return np.asarray(np.sqrt(offsets[None, :] ** 2 + offsets[:, None] ** 2))
