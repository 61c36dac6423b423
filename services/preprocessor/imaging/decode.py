"""Bytes to pixels, distrustful of the bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from services.preprocessor.imaging.header import (
    BOMB,
    DAMAGE,
    TOO_MANY_PIXELS,
    TRUNCATED,
    UNSUPPORTED_FORMAT,
    open_checked,
)
from services.preprocessor.imaging.orientation import exif_orientation, upright
from services.preprocessor.imaging.outcomes import Pixels, Rejection
from services.preprocessor.imaging.parameters import DEFAULT, SIDE, ImagingParameters
from services.preprocessor.imaging.srgb import UNSCALED, rgb_pixels


@dataclass(frozen=True, slots=True)
class Photograph:
    """Decoded pixels, upright.

    Attributes:
        rgb: uint8 [h, w, 3]; smaller than the source when a large JPEG was decoded at reduced scale.
        source_size: (width, height) of the source, upright, in pixels.
        profile: the file's ICC profile, not yet applied.
        lossless: True when the file kept every pixel as it was.
    """

    rgb: Pixels
    source_size: tuple[int, int]
    profile: bytes | None
    lossless: bool


def decode(
    data: bytes, parameters: ImagingParameters = DEFAULT, short_side: int | None = None
) -> Photograph | Rejection:
    """Decode an uploaded file to upright RGB, or say why not.

    Args:
        data: the file.
        parameters: limits.
        short_side: a JPEG may be decoded at 1/2, 1/4 or 1/8 scale as long as its shorter side keeps this many
            pixels; by default the parameters' decode_oversampling × 224.
    """
    image = open_checked(data, parameters)
    if isinstance(image, Rejection):
        return image
    if image.mode in UNSCALED:
        return UNSUPPORTED_FORMAT
    width, height = image.size
    lossless = _lossless(image, data)
    try:
        if image.format in ("JPEG", "MPO"):
            least = parameters.decode_oversampling * SIDE if short_side is None else short_side
            scale = least / min(width, height)
            if scale < 1:
                # draft() keeps both sides at least as long as asked, so rounding up is safe.
                image.draft("RGB", (int(np.ceil(width * scale)), int(np.ceil(height * scale))))
        image.load()
        # Read after loading: Pillow turns TIFF and HEIF upright itself and then takes the tag away.
        orientation = exif_orientation(image)
        profile = image.info.get("icc_profile")
        pixels = rgb_pixels(image)
        image.close()  # frees its pixels before these are turned, which takes a copy
        rgb = upright(pixels, orientation)
    except BOMB:
        return TOO_MANY_PIXELS
    except DAMAGE:
        return TRUNCATED
    return Photograph(
        rgb=rgb,
        source_size=(height, width) if orientation >= 5 else (width, height),
        profile=profile if isinstance(profile, bytes) else None,
        lossless=lossless,
    )


def _lossless(image: Image.Image, data: bytes) -> bool:
    if image.format == "TIFF":
        return image.info.get("compression") not in ("jpeg", "webp")
    if image.format == "WEBP":
        return b"VP8L" in data[:64]
    return image.format in ("PNG", "BMP")
