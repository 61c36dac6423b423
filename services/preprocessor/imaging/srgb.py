"""Any Pillow mode and any colour profile to plain 8-bit sRGB."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from PIL import Image, ImageCms, ImageStat

from services.preprocessor.imaging.outcomes import Pixels

#: Longest ICC profile that is looked at, in bytes. Cameras' have 0.5–4 kB; table-based ones for print reach
#: megabytes, and hold nothing that a photograph of skin needs.
MAX_PROFILE_BYTES: Final = 1 << 20

_SIXTEEN_BIT: Final = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_WITH_ALPHA: Final = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
#: Modes of 32 bits a channel, whose range of values nothing tells.
UNSCALED: Final = frozenset({"I", "F"})
#: Pixels that are converted at a time: a few megabytes.
STRIP_PIXELS: Final = 1 << 20


def rgb_pixels(image: Image.Image) -> Pixels:
    """The pixels of a decoded image of any mode but UNSCALED, uint8 [h, w, 3]; profiles are left to `to_srgb`.

    16 bits are scaled to 8. Transparent parts take the mean colour of the opaque ones: white or black would
    pose as light or shadow and pull the colour constancy with it.

    The image is converted strip by strip: besides the image itself only the result is ever whole in memory, so
    60 megapixels stay below the limit that decoders are held to.
    """
    convert = _over_mean_colour(image) if _may_be_transparent(image) else _opaque
    if image.width * image.height <= STRIP_PIXELS:
        return convert(image)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top, strip in _strips(image):
        pixels[top : top + strip.height] = convert(strip)
    return pixels


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, STRIP_PIXELS // image.width)
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _may_be_transparent(image: Image.Image) -> bool:
    return image.mode not in _SIXTEEN_BIT and (image.mode in _WITH_ALPHA or "transparency" in image.info)


def _opaque(strip: Image.Image) -> Pixels:
    if strip.mode in _SIXTEEN_BIT:
        samples = np.asarray(strip).astype(np.uint32)
        return np.repeat(((samples * 255 + 32767) // 65535).astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))


def _over_mean_colour(image: Image.Image) -> Callable[[Image.Image], Pixels]:
    """How to lay a strip of the image over the mean colour of what is opaque in the whole image."""
    lowest, histogram = 255, [0] * 768
    for _, strip in _strips(image):
        rgba = strip.convert("RGBA")
        alpha = rgba.getchannel("A")
        lowest = min(lowest, int(alpha.getextrema()[0]))  # type: ignore[arg-type]
        opaque = alpha.point([0] * 128 + [255] * 128)
        if opaque.getbbox():
            counts = rgba.convert("RGB").histogram(opaque)
            histogram = [one + other for one, other in zip(histogram, counts, strict=True)]
    if lowest == 255:
        return _opaque
    mean = ImageStat.Stat(histogram).mean if any(histogram) else [128.0, 128.0, 128.0]
    colour = (round(mean[0]), round(mean[1]), round(mean[2]))

    def over_colour(strip: Image.Image) -> Pixels:
        rgba = strip.convert("RGBA")
        backdrop = Image.new("RGB", strip.size, colour)
        backdrop.paste(rgba.convert("RGB"), mask=rgba.getchannel("A"))
        return np.asarray(backdrop)

    return over_colour


def to_srgb(rgb: Pixels, profile: bytes | None) -> Pixels:
    """Translate pixels of a wide-gamut camera (Display P3, Adobe RGB) to sRGB.

    Args:
        rgb: uint8 [h, w, 3], RGB.
        profile: the file's ICC profile; without one, with an unreadable one or one of another colour space
            (CMYK, grey) the pixels are taken for sRGB.
    """
    if not profile or len(profile) > MAX_PROFILE_BYTES:
        return rgb
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != "RGB " or "sRGB" in (source.profile.profile_description or ""):
            return rgb
        converted = ImageCms.profileToProfile(
            Image.fromarray(rgb),
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return rgb
    return rgb if converted is None else np.asarray(converted, dtype=np.uint8)
