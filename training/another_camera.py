"""A photograph as somebody else might have taken it: how the images of other clinics differ, where one can draw it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np

from services.preprocessor.imaging import normalise
from services.preprocessor.imaging.square import centre_square

Pixels = np.ndarray[Any, Any]

# Least share of the shorter side that is kept: how closely a lesion is framed is a habit.
_CLOSEST = 0.85

# Most that one colour is lighter or darker: what white balances leave between two cameras.
_CAST = 0.1

# Unsharp mask, as cameras apply it: how much of what a Gaussian of so many pixels of a 224th of the side takes away.
_SHARPENED, _SHARPENED_OVER = 0.6, 1.0

_JPEG_QUALITY = 80

# Half the width of a dermatoscope's disc in shorter sides, and how far from the middle it lies.
_DISC, _DISC_BESIDE = (0.35, 0.6), 0.05

# Most that the light at a disc's rim is weaker than in its middle, and the power of the distance with which it falls.
_FALLOFF, _FALLOFF_POWER = 0.6, 4

# Grey levels of the frame around the disc: cameras brighten what is black.
_FRAME_GREY = 16


def from_another_camera(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a photograph framed more closely, in another light, sharper and compressed once more.

    Args:
        rgb: uint8 ``[h,w,3]``, before any correction.
        rng: draws the frame, up to 15 % closer and anywhere within, and each colour's factor, 0.9 to 1.1.

    Returns:
        A square, uint8 ``[side,side,3]``.
    """
    height, width = rgb.shape[:2]
    side = max(int(min(height, width) * rng.uniform(_CLOSEST, 1.0)), 1)
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    framed = rgb[top : top + side, left : left + side] * rng.uniform(1.0 - _CAST, 1.0 + _CAST, 3)
    lit = np.clip(np.rint(framed), 0, 255).astype(np.uint8)
    smooth = cv2.GaussianBlur(lit, (0, 0), _SHARPENED_OVER * max(side / 224, 1.0))
    sharp = cv2.addWeighted(lit, 1.0 + _SHARPENED, smooth, -_SHARPENED, 0.0)
    _, packed = cv2.imencode(".jpg", sharp, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED))


def through_a_dermatoscope(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a photograph through a clip-on dermatoscope: a disc on black, with light that falls off towards its rim.

    Args:
        rgb: uint8 ``[h,w,3]``, before any correction.
        rng: draws the disc, 0.7 to 1.2 shorter sides wide, and how much less light it has at its rim, 0 to 60 %.

    Returns:
        Its centre square, uint8 ``[224,224,3]``.
    """
    square = centre_square(rgb)
    side = len(square)
    radius = side * rng.uniform(*_DISC)
    rows, columns = (np.arange(side) - side / 2 - rng.uniform(-_DISC_BESIDE, _DISC_BESIDE) * side for _ in range(2))
    distance = np.hypot(rows[:, None], columns[None, :]) / radius
    light = 1.0 - rng.uniform(0.0, _FALLOFF) * np.minimum(distance, 1.0) ** _FALLOFF_POWER
    lit = cv2.GaussianBlur((distance < 1).astype(np.float32), (0, 0), 1.5)
    shown = square * (light * lit)[..., None] + rng.integers(_FRAME_GREY) * (1.0 - lit)[..., None]
    return np.asarray(np.clip(np.rint(shown), 0, 255), np.uint8)


def retaken(
    photographs: Iterable[tuple[int, Pixels]],
    seed: int,
    by: Callable[[Pixels, np.random.Generator], Pixels] = from_another_camera,
) -> tuple[list[int], Pixels]:
    """Return positions of photographs, and each taken otherwise, prepared: uint8 ``[n,224,224,3]``."""
    rng = np.random.default_rng(seed)
    taken = {position: normalise(by(rgb, rng)).tensor for position, rgb in photographs}
    return list(taken), np.stack(list(taken.values()))
