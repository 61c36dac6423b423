"""A clean copy of an uploaded file: the photograph and nothing about who took it, where and when."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image

from services.preprocessor.imaging.decode import decode
from services.preprocessor.imaging.outcomes import Rejection
from services.preprocessor.imaging.parameters import DEFAULT, ImagingParameters
from services.preprocessor.imaging.srgb import to_srgb

#: Longest side of a clean copy in pixels: a 12-megapixel phone photo (4,032 px) keeps its resolution.
MAX_COPY_SIDE: Final = 4096
#: Up to here a lossless source stays lossless, as PNG; above, PNG costs 6 MB and a second for noise.
MAX_LOSSLESS_PIXELS: Final = 2_000_000
#: JPEG quality of a clean copy: about one grey level of error at 224 × 224.
COPY_QUALITY: Final = 95


def scrub_metadata(data: bytes, parameters: ImagingParameters = DEFAULT) -> bytes | Rejection:
    """Decode under the usual limits and encode anew: upright, sRGB, free of EXIF, XMP, IPTC and comments.

    Returns:
        A JPEG (quality 95, 4:4:4), or a PNG when the source is lossless and has at most 2 million pixels; or
        why the file cannot be decoded. Nothing but pixels is carried over, so what a format may hide is gone
        as well.
    """
    photograph = decode(data, parameters, short_side=MAX_COPY_SIDE)
    if isinstance(photograph, Rejection):
        return photograph
    image = Image.fromarray(to_srgb(photograph.rgb, photograph.profile))
    image.thumbnail((MAX_COPY_SIDE, MAX_COPY_SIDE), Image.Resampling.LANCZOS)
    clean = io.BytesIO()
    if photograph.lossless and image.width * image.height <= MAX_LOSSLESS_PIXELS:
        image.save(clean, "PNG")
    else:
        image.save(clean, "JPEG", quality=COPY_QUALITY, subsampling="4:4:4")
    return clean.getvalue()
