"""Picks the way to clean a file by its format."""

from __future__ import annotations

from PIL import Image

from services.gateway.metadata.colour_profile import anonymous_profile
from services.gateway.metadata.jpeg import strip_jpeg
from services.gateway.metadata.png import may_be_oriented, strip_png
from services.gateway.metadata.reencode import as_png
from services.gateway.metadata.webp import holds_frames, strip_webp
from services.preprocessor.imaging import ImageHeader, Rejection
from services.preprocessor.imaging.header import BOMB, DAMAGE, TOO_MANY_PIXELS, TRUNCATED, open_checked
from services.preprocessor.imaging.orientation import exif_orientation


def without_metadata(data: bytes, header: ImageHeader) -> bytes | Rejection:
    """The file without EXIF, XMP, IPTC, comments, thumbnails, further images and trailing data.

    Imaging reads exactly the same pixels, orientation and colours from it as from `data`. JPEG, PNG and WebP keep their
    coded pixels byte for byte; TIFF, BMP, HEIC and AVIF become PNG.

    Args:
        data: the file as it came.
        header: what `sniff` said about it.

    Returns:
        The clean file, or the reason why it cannot be read.
    """
    if header.format in ("jpeg", "png") or (header.format == "webp" and not holds_frames(data)):
        image = open_checked(data)
        if isinstance(image, Rejection):
            return image
        try:
            with image:
                # Pillow decodes a PNG to look for EXIF behind the pixels: only where there can be any.
                looked_for = header.format != "png" or may_be_oriented(data)
                orientation = exif_orientation(image) if looked_for else 1
                profile = _anonymous_profile_of(image)
        except BOMB:
            return TOO_MANY_PIXELS
        except DAMAGE:
            return TRUNCATED
        strip = {"jpeg": strip_jpeg, "png": strip_png, "webp": strip_webp}[header.format]
        return strip(data, orientation, profile)
    return as_png(data)


def _anonymous_profile_of(image: Image.Image) -> bytes | None:
    profile = image.info.get("icc_profile")
    return anonymous_profile(profile if isinstance(profile, bytes) else None)
