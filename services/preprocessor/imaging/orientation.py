"""EXIF orientation: the photograph as the photographer saw it."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

from services.preprocessor.imaging.header import DAMAGE
from services.preprocessor.imaging.outcomes import Pixels


def exif_orientation(image: Image.Image) -> int:
    """The orientation tag, 1–8; 1 when there is none or the EXIF block is malformed."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    # Pillow parses EXIF as TIFF and lets that parser's errors through; a broken tag must not cost the photo.
    except DAMAGE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an orientation (EXIF 2.32, tag 0x0112), 1–8, to decoded pixels [h, w, 3]; 1 is "as they are"."""
    if orientation in (2, 3, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7):
        pixels = pixels[::-1]
    if orientation in (5, 7):
        pixels = pixels.transpose(1, 0, 2)
    elif orientation in (6, 8):
        pixels = np.rot90(pixels, 3 if orientation == 6 else 1)
    return np.ascontiguousarray(pixels)
