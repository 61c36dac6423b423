"""Where the networks looked: the 7×7 attention grid as a picture to lay over the photograph's centre square.

The grid is of what they were shown, the frame: all of that square, but for photographs that are dark around it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.analysis.results import TENSOR_SIDE_PX
from services.preprocessor.imaging.outcomes import WHOLE_SQUARE, Frame

#: Colours from "hardly looked at" to "looked at most" at equal steps: magma's dark half left out, as it would pass for
#: pigment. Increasing in lightness, so that it is read without colour vision too.
_COLOURS = np.array(
    [(81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)],
    dtype=np.float32,
)
#: Opacity of the most looked-at place: the lesion must stay visible under it.
MAX_OPACITY = 0.65


def frame_in(preparation: Mapping[str, Any] | None) -> Frame:
    """The frame that the record keeps; the whole square for analyses from before there were frames."""
    told = (preparation or {}).get("frame")
    return Frame(**told) if told else WHOLE_SQUARE


def smooth_attention(attention: tuple[tuple[float, ...], ...], side: int = TENSOR_SIDE_PX) -> NDArray[np.float32]:
    """The grid enlarged to `side` × `side` pixels, float32 0–1, without steps between its cells."""
    grid = Image.fromarray(np.asarray(attention, dtype=np.float32))
    smooth = np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
    # A cubic overshoots at steep edges.
    return np.clip(smooth, 0.0, 1.0)


def attention_overlay(
    attention: tuple[tuple[float, ...], ...],
    side: int = TENSOR_SIDE_PX,
    frame: Frame = WHOLE_SQUARE,
) -> Image.Image:
    """RGBA: colour and opacity grow with attention; what was not looked at is clear."""
    share = np.zeros((side, side), np.float32)
    framed = min(max(round(frame.side * side), 1), side)
    left, top = (min(round(start * side), side - framed) for start in (frame.left, frame.top))
    share[top : top + framed, left : left + framed] = smooth_attention(attention, framed)
    steps = np.linspace(0.0, 1.0, len(_COLOURS))
    channels = [np.interp(share, steps, _COLOURS[:, channel]) for channel in range(3)]
    rgba = np.stack([*channels, share * MAX_OPACITY * 255], axis=-1)
    return Image.fromarray(np.rint(rgba).astype(np.uint8), "RGBA")


def attention_png(attention: tuple[tuple[float, ...], ...], frame: Frame = WHOLE_SQUARE) -> bytes:
    """The overlay as PNG, 224 × 224."""
    png = io.BytesIO()
    attention_overlay(attention, frame=frame).save(png, "PNG", optimize=True)
    return png.getvalue()
