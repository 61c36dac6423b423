"""The lit field of a photograph: what a dermatoscope's round frame, or a screenshot's bars, leave of the square.

Whoever holds a clip-on dermatoscope to a phone gets a bright disc on black. Hardly any training image shows one, and
networks take dark corners for a sign of disease (Pewton and Yap, "Dark corner on skin lesion image dataset: does it
matter?", CVPR workshops 2022). So what is looked at is the square around the disc, and what is still dark in its
corners shows the skin inside the rim once more, mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from services.preprocessor.imaging.exposure import brightness, light_of
from services.preprocessor.imaging.falloff import evened_disc
from services.preprocessor.imaging.outcomes import WHOLE_SQUARE, Frame, Mask, Pixels
from services.preprocessor.imaging.parameters import SIDE, ImagingParameters
from services.preprocessor.imaging.square import centre_of, scaled

Floats = npt.NDArray[np.float64]

#: Times that the tenth of the rim which fits least is left out: hairs and scales that reach over it.
_TRIMS = 3
#: Pixels at a rim without which none is looked for: a circle that just touches the corners has 40.
_LEAST_OF_A_RIM = 20


@dataclass(frozen=True, slots=True)
class Rim:
    """An upright ellipse: its centre from the square's, and its half axes, in sides of the square."""

    x: float
    y: float
    across: float
    down: float

    def distances(self, side: int) -> Floats:
        """How far each pixel of a square lies from the centre, 1 being the rim: float64 [side, side]."""
        offsets = _offsets(side)
        return np.asarray(np.hypot((offsets - self.x)[None, :] / self.across, (offsets - self.y)[:, None] / self.down))

    def seen_in(self, frame: Frame, inside: float) -> Rim:
        """The same in sides of `frame` and from its centre, `inside` times as large."""
        middle_x, middle_y = (start + (frame.side - 1) / 2 for start in (frame.left, frame.top))
        return Rim(
            (self.x - middle_x) / frame.side,
            (self.y - middle_y) / frame.side,
            self.across / frame.side * inside,
            self.down / frame.side * inside,
        )


def lit_square(rgb: Pixels, parameters: ImagingParameters) -> tuple[Pixels, Frame]:
    """The square that is looked at, and where in the centre square of the photograph it lies.

    That is the centre square itself, unless something dark surrounds what is lit of it.

    Args:
        rgb: uint8 [height, width, 3].
        parameters: what counts as dark, and which shapes are looked for.

    Returns:
        A new array, uint8 [224, 224, 3], and its frame.
    """
    centre = centre_of(rgb)
    square = scaled(centre, SIDE)
    dark = _dark_surroundings(square, parameters)
    if dark is None:
        return square, WHOLE_SQUARE
    rim = _rim(dark, parameters)
    frame = _bars(dark, parameters) if rim is None else _around(rim, parameters)
    if frame is None:
        return square, WHOLE_SQUARE
    framed = scaled(_cut(centre, frame), SIDE)
    if rim is not None:
        disc = rim.seen_in(frame, parameters.field_inside_rim)
        framed = _mirrored(evened_disc(framed, disc.distances, parameters), disc)
    return framed, frame


def _dark_surroundings(square: Pixels, parameters: ImagingParameters) -> Mask | None:
    """What is dark and reaches the edge of the square; a dark lesion within it does not."""
    as_good_as_black = max(parameters.field_dark, parameters.field_dark_of_light * light_of(square))
    dark = (brightness(square) < as_good_as_black).view(np.uint8)
    if cv2.countNonZero(dark) < parameters.field_dark_share * dark.size:
        return None
    count, labels = cv2.connectedComponents(dark, connectivity=4)
    reaching = np.zeros(count, bool)
    reaching[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    reaching[0] = False  # the number of all that is not dark
    surroundings = np.asarray(reaching[labels])
    return surroundings if surroundings.mean() >= parameters.field_dark_share else None


def _rim(dark: Mask, parameters: ImagingParameters) -> Rim | None:
    """The upright ellipse in which the dark ends; None where it has another shape."""
    side = len(dark)
    rim = cv2.dilate(dark.astype(np.uint8), np.ones((3, 3), np.uint8)) - dark
    rim[[0, -1]] = rim[:, [0, -1]] = 0
    down, across = np.nonzero(rim)
    x, y = _offsets(side)[across], _offsets(side)[down]
    quarters = {(right, low) for right, low in zip((x > 0).tolist(), (y > 0).tolist(), strict=True)}
    # Through fewer, as the edge of a limb or of a shadow has them, go many ellipses.
    if len(quarters) < 3 or len(x) < _LEAST_OF_A_RIM:
        return None
    fitted = _ellipse(x, y)
    for _ in range(_TRIMS):
        if fitted is None:
            return None
        off = np.abs(np.hypot((x - fitted.x) / fitted.across, (y - fitted.y) / fitted.down) - 1)
        near = off <= np.quantile(off, 0.9)
        x, y = x[near], y[near]
        fitted = _ellipse(x, y)
    if fitted is None:
        return None
    is_round = 1 / parameters.field_flattest <= fitted.across / fitted.down <= parameters.field_flattest
    return fitted if is_round and _agree(fitted.distances(side) > 1, dark, parameters) else None


def _ellipse(x: Floats, y: Floats) -> Rim | None:
    """x² + k·y² + p·x + q·y + r = 0 by least squares."""
    terms = np.stack([y * y, x, y, np.ones_like(x)], axis=1)
    # Not by NumPy: its linear algebra library reserves 32 MB at its first use, which a cell has not to spare.
    is_solved, solution = cv2.solve(terms, -(x * x)[:, None], flags=cv2.DECOMP_SVD)
    k, p, q, r = (float(value) for value in solution[:, 0])
    if not is_solved or k <= 0:
        return None
    squared = p * p / 4 + q * q / (4 * k) - r
    return Rim(-p / 2, -q / (2 * k), squared**0.5, (squared / k) ** 0.5) if squared > 0 else None


def _around(rim: Rim, parameters: ImagingParameters) -> Frame | None:
    """The largest square around a rim's centre that holds little beside the disc."""
    side = min(1.0, parameters.field_framed * 2 * min(rim.across, rim.down))
    return _frame(rim.x, rim.y, side, parameters)


def _bars(dark: Mask, parameters: ImagingParameters) -> Frame | None:
    """The largest square between bars; None where what is dark has another shape."""
    side = len(dark)
    spans = []
    for axis in (0, 1):
        lit = np.flatnonzero(dark.mean(axis=axis) < parameters.field_bar)
        if not len(lit):
            return None
        first, last = int(lit[0]), int(lit[-1])
        # A bar may end within a pixel, which is neither dark nor lit then.
        spans.append((first + (first > 0), last + (last == side - 1)))
    (left, right), (top, bottom) = spans
    bars = np.ones_like(dark)
    bars[top:bottom, left:right] = False
    if not _agree(bars, dark, parameters):
        return None
    middle_x, middle_y = ((first + last) / 2 / side - 0.5 for first, last in spans)
    return _frame(middle_x, middle_y, min(right - left, bottom - top) / side, parameters)


def _agree(outside: Mask, dark: Mask, parameters: ImagingParameters) -> bool:
    """Whether what lies outside a shape and what is dark are the same but for a little."""
    either = np.count_nonzero(outside | dark)
    return bool(np.count_nonzero(outside & dark) >= parameters.field_agreement * either)


def _frame(x: float, y: float, side: float, parameters: ImagingParameters) -> Frame | None:
    """The square with its centre there, or as near to there as it lies within the centre square."""
    if side < parameters.field_least:
        return None
    play = (1 - side) / 2
    left, top = (min(max(middle, -play), play) + play for middle in (x, y))
    return Frame(left, top, side)


def _cut(square: Pixels, frame: Frame) -> Pixels:
    length = max(round(frame.side * len(square)), 1)
    top, left = (min(round(start * len(square)), len(square) - length) for start in (frame.top, frame.left))
    return square[top : top + length, left : left + length]


def _mirrored(square: Pixels, rim: Rim) -> Pixels:
    """Beyond the rim each pixel shows the one as far inside it, on the same ray from the centre."""
    side = len(square)
    distances = rim.distances(side)
    nearer = np.where(distances > 1, np.maximum(2 - distances, 0) / np.maximum(distances, 1), 1.0)
    x, y = (
        ((offsets - middle) * nearer + middle) * side + (side - 1) / 2
        for offsets, middle in ((_offsets(side)[None, :], rim.x), (_offsets(side)[:, None], rim.y))
    )
    return np.asarray(
        cv2.remap(square, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT),
        dtype=np.uint8,
    )


def _offsets(side: int) -> Floats:
    """Centres of the pixels of a row from its middle, in sides."""
    return (np.arange(side) - (side - 1) / 2) / side
