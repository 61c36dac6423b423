"""Mutated image files, each made again from a seed and a number."""

from __future__ import annotations

import io
import random
import struct
from functools import cache

import numpy as np
from PIL import Image

from tests import hostile

SIZE = (96, 72)
#: What fields of length, count and size do not expect.
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@cache
def seeds() -> tuple[tuple[str, bytes], ...]:
    """Name and content of small files of every kind that is taken."""
    rng = np.random.default_rng(0)
    skin = (np.array((205, 160, 140)) + rng.normal(0, 9, (SIZE[1], SIZE[0], 3))).clip(0, 255).astype(np.uint8)
    skin[20:50, 30:60] //= 2
    rgb = Image.fromarray(skin)
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(np.tile(np.arange(SIZE[0], dtype=np.uint8), (SIZE[1], 1))))
    deep = Image.fromarray(skin[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    kinds: list[tuple[str, Image.Image, str, dict[str, object]]] = [
        ("jpeg", rgb, "JPEG", {"exif": exif}),
        ("jpeg progressive", rgb, "JPEG", {"progressive": True}),
        ("jpeg grey", rgb.convert("L"), "JPEG", {}),
        ("jpeg cmyk", rgb.convert("CMYK"), "JPEG", {}),
        ("png", rgb, "PNG", {"exif": exif}),
        ("png palette", rgb.convert("P"), "PNG", {"transparency": 3}),
        ("png alpha", alpha, "PNG", {}),
        ("png 16 bit", deep, "PNG", {}),
        ("png black and white", rgb.convert("1"), "PNG", {}),
        ("webp", rgb, "WEBP", {"exif": exif.tobytes()}),
        ("webp lossless", rgb, "WEBP", {"lossless": True}),
        ("webp alpha", alpha, "WEBP", {}),
        ("bmp", rgb, "BMP", {}),
        ("bmp palette", rgb.convert("P"), "BMP", {}),
        ("tiff", rgb, "TIFF", {}),
        ("tiff lzw", rgb, "TIFF", {"compression": "tiff_lzw"}),
        ("tiff deflate", rgb, "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("tiff jpeg", rgb, "TIFF", {"compression": "jpeg"}),
        ("tiff packbits", rgb.convert("L"), "TIFF", {"compression": "packbits"}),
        ("tiff fax", rgb.convert("1"), "TIFF", {"compression": "group4"}),
        ("tiff 16 bit", deep, "TIFF", {}),
        ("heic", rgb, "HEIF", {"quality": 50}),
        ("heic alpha", alpha, "HEIF", {"quality": 50}),
        ("avif", rgb, "AVIF", {"quality": 50, "speed": 10}),
        ("avif alpha", alpha, "AVIF", {"quality": 50, "speed": 10}),
    ]
    files = []
    for name, image, kind, options in kinds:
        file = io.BytesIO()
        image.save(file, kind, **options)
        files.append((name, file.getvalue()))
    files += [(f"exif: {name}", data) for name, data in hostile.malformed_exif().items()]
    files += [(f"bomb: {name}", data) for name, data in hostile.bombs().items() if len(data) < 20_000]
    return tuple(files)


def mutated(seed: int, number: int) -> tuple[str, bytes]:
    """The `number`-th file of a seed, and what it was made from."""
    chance = random.Random(f"{seed}:{number}")
    name, whole = chance.choice(seeds())
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 8, 20))):
        _mutate(data, chance)
    return name, bytes(data)


def _mutate(data: bytearray, chance: random.Random) -> None:
    if len(data) < 16:
        data += bytes(16)
    # Half of the changes hit the headers, where the numbers stand that decoders believe.
    at = chance.randrange(min(len(data), 400)) if chance.random() < 0.5 else chance.randrange(len(data))
    kind = chance.randrange(8)
    if kind == 0:
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        data[at] = chance.randrange(256)
    elif kind == 2:
        form = chance.choice(("<H", ">H", "<I", ">I"))
        number = struct.pack(form, chance.choice(_NUMBERS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
        data[at : at + len(number)] = number
    elif kind == 3:
        del data[at : at + chance.choice((1, 2, 4, 16, 200))]
    elif kind == 4:
        data[at:at] = data[at : at + chance.choice((1, 4, 12, 64))]
    elif kind == 5:
        data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 32)))
    elif kind == 6:
        _, other = chance.choice(seeds())
        begin = chance.randrange(len(other))
        data[at : at + 64] = other[begin : begin + chance.choice((4, 64, 512))]
    else:
        del data[max(at, 16) :]
