"""What lies on and around a lesion in other clinics' photographs: drawn, since hardly any training image shows it.

Networks take a surgeon's pen for disease (Winkler et al., "Association between surgical skin markings in dermoscopic
images and diagnostic performance of a deep learning convolutional neural network", JAMA Dermatology 2019), and drawn
ones, bubbles, white frames and a lesion far away each move their answers (ADR 22). All lengths are in sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from services.preprocessor.imaging.square import centre_square

Pixels = np.ndarray[Any, Any]

#: Shares of a pixel that OpenCV draws by: as a power of two.
_SHIFT = 3

#: Inks of a surgeon's pen: violet to blue, and black. RGB.
_INKS = ((110, 60, 150), (70, 60, 140), (50, 80, 170), (30, 30, 40))

#: Colours of plasters and stickers: blue, green, orange, red, white. RGB.
_STICKERS = ((60, 110, 190), (70, 150, 90), (230, 140, 60), (190, 60, 60), (240, 240, 235))


def with_surroundings(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a photograph's centre square with one of them drawn: which, where and how large is random.

    Args:
        image: uint8 ``[h,w,3]``; not modified.
        rng: draws it.

    Returns:
        uint8 ``[224,224,3]``.
    """
    draw = _DRAWINGS[int(rng.integers(len(_DRAWINGS)))]
    return draw(centre_square(image), rng)


def from_farther_away(image: Pixels, rng: np.random.Generator) -> Pixels:
    """The square at 0.5 to 0.85 of its size, on skin as its edges have it."""
    side = image.shape[0]
    length = int(side * rng.uniform(0.5, 0.85))
    small = cv2.resize(image, (length, length), interpolation=cv2.INTER_AREA)
    top, left = (int(v) for v in rng.integers(0, side - length + 1, 2))
    borders = (top, side - length - top, left, side - length - left)
    wide = cv2.copyMakeBorder(small, *borders, cv2.BORDER_REPLICATE)
    skin = cv2.GaussianBlur(wide, (0, 0), side * 0.03)
    grain = cv2.GaussianBlur(rng.normal(0.0, 9.0, (side, side)).astype(np.float32), (0, 0), 1.0)
    inside = np.zeros((side, side), np.float32)
    inside[top : top + length, left : left + length] = 1.0
    inside = cv2.GaussianBlur(inside, (0, 0), side * 0.01)
    shown = wide * inside[..., None] + (skin + grain[..., None]) * (1.0 - inside[..., None])
    return np.asarray(np.clip(np.rint(shown), 0, 255), np.uint8)


def with_pen(image: Pixels, rng: np.random.Generator) -> Pixels:
    """An open ring, or strokes and dots, around the middle."""
    result = image.copy()
    side = image.shape[0]
    ink = _shade(_INKS, rng)
    width = max(round(side * rng.uniform(0.008, 0.03)), 1)
    if rng.random() < 0.5:
        axes = rng.uniform(0.28, 0.48, 2)
        start = rng.uniform(0, 360)
        points = _ellipse(rng.normal(0.5, 0.03, 2), axes, start, start + rng.uniform(120, 350))
        _line(result, points, ink, width)
    else:
        for _ in range(int(rng.integers(2, 6))):
            angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.5)
            near = 0.5 + radius * np.array([np.cos(angle), np.sin(angle)])
            _line(result, np.stack([near, near + rng.normal(0, 0.06, 2)]), ink, width)
    return _blended(image, result, rng.uniform(0.5, 0.95))


def with_bubbles(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Air in the gel between glass and skin: bright thin rings, some with a glint."""
    result = image.copy()
    for _ in range(int(rng.integers(5, 40))):
        centre, radius = rng.uniform(0, 1, 2), rng.exponential(0.02) + 0.008
        bright = rng.uniform(190, 255)
        colour = (bright, bright * 0.98, bright * 0.97)
        points = _ellipse(centre, np.array([radius, radius * rng.uniform(0.8, 1.2)]), 0, 360)
        _line(result, points, colour, 1)
        if rng.random() < 0.3:
            _area(result, _ellipse(centre - radius * 0.4, np.full(2, radius * 0.25), 0, 360), colour)
    return _blended(image, result, rng.uniform(0.4, 0.95))


def in_a_white_frame(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A margin on some sides, or all beyond a disc, in white to light grey: prints, paper, screenshots."""
    side = image.shape[0]
    grey = rng.uniform(200, 255) * np.array([1.0, *rng.uniform(0.97, 1.0, 2)])
    offsets = (np.arange(side) + 0.5) / side
    if rng.random() < 0.5:
        radius, middle = rng.uniform(0.42, 0.65), rng.normal(0.5, 0.04, 2)
        distance = np.hypot((offsets - middle[0])[:, None], (offsets - middle[1])[None, :])
        outside = distance > radius
    else:
        margins = rng.uniform(0.02, 0.14, 4) * (rng.random(4) < 0.6)
        lit = [(offsets > margins[i]) & (offsets < 1 - margins[i + 2]) for i in (0, 1)]
        outside = ~(lit[0][:, None] & lit[1][None, :])
    covered = cv2.GaussianBlur(outside.astype(np.float32), (0, 0), rng.uniform(0.3, 2.0))[..., None]
    return np.asarray(np.clip(np.rint(image * (1.0 - covered) + grey * covered), 0, 255), np.uint8)


def with_sticker(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A part of a coloured round plaster at the edge, as some clinics mark where to look."""
    result = image.copy()
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.25)
    centre = 0.5 + rng.uniform(0.52, 0.68) * np.array([np.cos(angle), np.sin(angle)])
    points = _ellipse(centre, np.array([radius, radius * rng.uniform(0.8, 1.2)]), 0, 360)
    _area(result, points, _shade(_STICKERS, rng))
    return result


def with_ruler(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Black millimetre marks along one edge."""
    result = image.copy()
    step, long, edge = rng.uniform(0.025, 0.08), rng.uniform(0.04, 0.1), rng.uniform(0.0, 0.05)
    ink = [rng.uniform(5, 70)] * 3
    for number, along in enumerate(np.arange(rng.uniform(0, step), 1.0, step)):
        marks = np.array([[along, edge], [along, edge + long * (1.0 if number % 5 == 0 else 0.5)]])
        _line(result, marks, ink, 1)
    return np.ascontiguousarray(np.rot90(result, int(rng.integers(4))) if rng.random() < 0.75 else result)


_DRAWINGS: tuple[Callable[[Pixels, np.random.Generator], Pixels], ...] = (
    from_farther_away,
    with_pen,
    with_bubbles,
    in_a_white_frame,
    with_sticker,
    with_ruler,
)


def _shade(colours: tuple[tuple[int, int, int], ...], rng: np.random.Generator) -> list[float]:
    colour = np.array(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.8, 1.2) + rng.normal(0, 8, 3)
    return [float(v) for v in np.clip(colour, 0, 255)]


def _ellipse(centre: Pixels, axes: Pixels, start_degrees: float, end_degrees: float) -> Pixels:
    t = np.deg2rad(np.linspace(start_degrees, end_degrees, 48))
    return np.asarray(centre + axes * np.stack([np.cos(t), np.sin(t)], axis=1))


def _line(image: Pixels, points: Pixels, colour: Sequence[float], width_px: int) -> None:
    cv2.polylines(
        image,
        [_at(points, image.shape[0])],
        isClosed=False,
        color=colour,
        thickness=width_px,
        lineType=cv2.LINE_AA,
        shift=_SHIFT,
    )


def _area(image: Pixels, points: Pixels, colour: Sequence[float]) -> None:
    cv2.fillPoly(image, [_at(points, image.shape[0])], colour, cv2.LINE_AA, _SHIFT)


def _at(points: Pixels, side: int) -> Pixels:
    """Points in sides as OpenCV's fixed-point pixels."""
    return np.asarray(np.rint(points * side * 2**_SHIFT), np.int32)


def _blended(image: Pixels, drawn: Pixels, opacity: float) -> Pixels:
    return np.asarray(cv2.addWeighted(drawn, opacity, image, 1.0 - opacity, 0.0))
