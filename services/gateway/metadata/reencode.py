"""Formats that hide too much to be cut: decoded as imaging decodes them, and stored as PNG."""

from __future__ import annotations

import io

from PIL import Image

from services.gateway.metadata.colour_profile import anonymous_profile
from services.preprocessor.imaging import Rejection
from services.preprocessor.imaging.decode import decode

#: zlib's fastest: a 12-megapixel HEIC takes half a second; the slowest saves a tenth of the space in ten times as long.
_PNG_LEVEL = 1


def as_png(data: bytes) -> bytes | Rejection:
    """The file's pixels, upright, as PNG; or why it cannot be decoded."""
    photograph = decode(data)
    if isinstance(photograph, Rejection):
        return photograph
    png = io.BytesIO()
    # Pillow turns a profile of None into no profile at all.
    Image.fromarray(photograph.rgb).save(
        png, "PNG", compress_level=_PNG_LEVEL, icc_profile=anonymous_profile(photograph.profile)
    )
    return png.getvalue()
