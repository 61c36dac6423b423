"""What a file claims to be: recognised by content and checked before any pixel is decoded."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Final

import pillow_heif
from PIL import Image, UnidentifiedImageError

from services.preprocessor.imaging.outcomes import Rejection
from services.preprocessor.imaging.parameters import DEFAULT, ImagingParameters

pillow_heif.register_heif_opener()

NOT_AN_IMAGE: Final = Rejection(
    "not_an_image", "This file is not an image. Send a photo of the spot, for example a JPEG."
)
EMPTY: Final = Rejection("empty", "The file is empty. Choose the photo again and send it once more.")
UNSUPPORTED_FORMAT: Final = Rejection(
    "unsupported_format",
    "This kind of file cannot be read. Send a still photo as JPEG, PNG, WebP, HEIC, AVIF, BMP or TIFF.",
)
ANIMATED: Final = Rejection("animated", "Moving images cannot be judged. Send a single still photo of the spot.")
TRUNCATED: Final = Rejection("truncated", "The file is damaged or incomplete. Send it again, or retake the photo.")
TOO_MANY_PIXELS: Final = Rejection(
    "too_many_pixels",
    "The image has too many pixels. Crop it to the spot, or send a photo of at most 60 megapixels.",
)
TOO_MANY_PIXELS_MANY_COPIES: Final = Rejection(
    "too_many_pixels",
    "The image has too many pixels for its kind. Send a WebP or AVIF of at most 24 megapixels, or a JPEG.",
)
TOO_SMALL: Final = Rejection(
    "too_small", "The image is too small to judge. Send one of at least 64 pixels on its shorter side."
)

#: What decoders raise on damaged data. Warnings are among them for programs that turn them into errors.
DAMAGE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    AttributeError,
    struct.error,
    Warning,
)
#: Pillow's own guard, twice as wide as ours; the warning arrives as an exception where warnings are errors.
BOMB: Final = (Image.DecompressionBombError, Image.DecompressionBombWarning)

#: Leading bytes → Pillow's decoder. Untrusted bytes reach only the one whose signature they carry.
_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)
#: Brands of ISO base media files (the box "ftyp") that hold a still image; every other brand is a video.
_HEIF_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
#: Leading bytes of files that show a picture but are not accepted, so that the answer can say so.
_REFUSED: Final = (
    b"GIF8",
    b"%PDF",
    b"8BPS",
    b"\x00\x00\x00\x0cjP  ",
    b"\xff\x4f\xff\x51",
    b"\xff\x0a",
    b"\x00\x00\x00\x0cJXL ",
    b"\x00\x00\x01\x00",
    b"<svg",
    b"<?xml",
    b"\x1aE\xdf\xa3",
    b"RIFF",
)
#: Formats in which several frames mean motion. A TIFF's are pages, an MPO's and a HEIC's are takes of one
#: photograph: there the first, or primary, one is the photograph.
_MOTION: Final = frozenset({"PNG", "WEBP", "AVIF"})
#: Formats whose decoders hold several copies of the picture at a time.
_MANY_COPIES: Final = frozenset({"WEBP", "AVIF"})


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file says about itself.

    Attributes:
        format: "jpeg", "png", "webp", "bmp", "tiff", "heif" or "avif".
        width, height: as stored, in pixels; the orientation tag is not applied.
    """

    format: str
    width: int
    height: int


def recognise(data: bytes) -> str | Rejection:
    """Name the decoder for these bytes by their signature, or say why there is none."""
    if not data:
        return EMPTY
    for signature, decoder in _SIGNATURES:
        if data.startswith(signature):
            return decoder
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        # The major brand, then a version, then compatible brands up to the end of the box.
        end = min(max(int.from_bytes(data[:4], "big"), 12), 256)
        brands = {data[8:12]} | {data[i : i + 4] for i in range(16, end - 3, 4)}
        if brands & _AVIF_BRANDS:
            return "AVIF"
        return "HEIF" if brands & _HEIF_BRANDS else UNSUPPORTED_FORMAT
    return UNSUPPORTED_FORMAT if data.lstrip()[:16].startswith(_REFUSED) else NOT_AN_IMAGE


def open_checked(data: bytes, parameters: ImagingParameters = DEFAULT) -> Image.Image | Rejection:
    """Read the header and refuse what must not, or need not, be decoded."""
    decoder = recognise(data)
    if isinstance(decoder, Rejection):
        return decoder
    try:
        image = Image.open(io.BytesIO(data), formats=(decoder,))
        width, height = image.size
        moving = decoder in _MOTION and getattr(image, "n_frames", 1) > 1
    except BOMB:
        return TOO_MANY_PIXELS
    except UnidentifiedImageError:  # the signature is right, what follows is not
        return TRUNCATED
    except DAMAGE:
        return TRUNCATED
    if width * height > parameters.max_pixels or max(width, height) > parameters.max_side:
        return TOO_MANY_PIXELS
    if decoder in _MANY_COPIES and width * height > parameters.max_pixels_many_copies:
        return TOO_MANY_PIXELS_MANY_COPIES
    if min(width, height) < parameters.min_side:
        return TOO_SMALL
    return ANIMATED if moving else image


def sniff(data: bytes, parameters: ImagingParameters = DEFAULT) -> ImageHeader | Rejection:
    """Check a file without decoding its pixels: what a gateway asks before accepting an upload.

    A file that passes can still turn out to be truncated when it is decoded.
    """
    image = open_checked(data, parameters)
    if isinstance(image, Rejection):
        return image
    with image:
        name = "jpeg" if image.format == "MPO" else str(image.format).lower()
        return ImageHeader(name, *image.size)
