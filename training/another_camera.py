"""A photograph as somebody else might have taken it: how the images of other clinics differ, where one can draw it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

from services.preprocessor.imaging import normalise

Pixels = np.ndarray[Any, Any]

# Least share of the shorter side that is kept: how closely a lesion is framed is a habit.
_CLOSEST = 0.85

# Most that one colour is lighter or darker: what white balances leave between two cameras.
_CAST = 0.1

# Unsharp mask, as cameras apply it: how much of what a Gaussian of so many pixels of a 224th of the side takes away.
_SHARPENED, _SHARPENED_OVER = 0.6, 1.0

_JPEG_QUALITY = 80


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


def retaken(photographs: Iterable[tuple[int, Pixels]], seed: int) -> tuple[list[int], Pixels]:
    """Return positions of photographs, and each as another camera's, prepared: uint8 ``[n,224,224,3]``."""
    rng = np.random.default_rng(seed)
    taken = {position: normalise(from_another_camera(rgb, rng)).tensor for position, rgb in photographs}
    return list(taken), np.stack(list(taken.values()))
