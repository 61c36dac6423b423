"""Files that nobody's camera writes: bombs, chimeras and malformed metadata, all of them made here."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

import numpy as np
import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()

SIDE = 7_680


@cache
def many_pixels(kind: str, mode: str) -> bytes:
    """59 megapixels in a small file."""
    columns = (np.arange(SIDE) // 64 % 7 * 20 + 60).astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(columns, (SIDE, SIDE)).copy()).convert(mode)
    if mode == "RGBA":
        image.putpixel((0, 0), (1, 2, 3, 0))
    file = io.BytesIO()
    image.save(file, kind, **({"compress_level": 1} if kind == "PNG" else {}))
    return file.getvalue()


def small(kind: str, size: tuple[int, int] = (160, 120), seed: int = 0, **options: object) -> bytes:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(90, 200, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with(chunk: bytes) -> bytes:
    """A PNG with a chunk after its header."""
    png = small("PNG")
    return png[:33] + chunk + png[33:]


def _compressed(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()


def png_header(width: int, height: int, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", data), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(entries: list[tuple[int, int, int, int]], tail: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory: tag, type, count, value."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0) + tail


def tiff_of_strips() -> bytes:
    """A TIFF whose one strip unpacks to a hundred times what its size allows."""
    packed = _compressed(64)
    offset = 8 + 2 + 12 * 10 + 4
    return tiff(
        [(256, 4, 1, 200), (257, 4, 1, 200), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, offset),
         (277, 3, 1, 1), (278, 4, 1, 0xFFFFFFFF), (279, 4, 1, len(packed)), (339, 3, 1, 1)],
        packed,
    )  # fmt: skip


def webp_canvas(width: int, height: int) -> bytes:
    """An extended WebP that says it has so many pixels, around a small picture."""
    inner = small("WEBP")[12:]
    header = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (width - 1).to_bytes(3, "little")
    body = b"WEBP" + header + (height - 1).to_bytes(3, "little") + inner
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp_header(width: int, height: int) -> bytes:
    """A run-length coded BMP that says it has so many pixels."""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 100, 0, 0, 2, 0)
    palette = bytes(8)
    body = b"\xff\x01" * 50
    offset = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + head + palette + body


def heif_with_size(kind: str, width: int, height: int) -> bytes:
    """A HEIC or AVIF whose spatial extents (box `ispe`) say that it has so many pixels."""
    file = bytearray(small(kind))
    at = file.find(b"ispe")
    while at >= 0:
        file[at + 8 : at + 16] = struct.pack(">II", width, height)
        at = file.find(b"ispe", at + 1)
    return bytes(file)


def heic_grid() -> bytes:
    """A HEIC whose primary item calls itself a grid, of tiles that are none."""
    return small("HEIF").replace(b"hvc1", b"grid", 1)


def exif_jpeg(content: bytes) -> bytes:
    """A JPEG with an EXIF segment of these bytes."""
    segment = b"Exif\0\0" + content
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + small("JPEG")[2:]


def bombs() -> dict[str, bytes]:
    """Small files that would be large."""
    huge = 60_000
    return {
        "png header": png_header(huge, huge, zlib.compress(bytes(huge * 3))),
        "png pixels": png_header(7_000, 7_000, _compressed(140)),
        "png zTXt": png_with(png_chunk(b"zTXt", b"Comment\0\0" + _compressed(256))),
        "png iTXt": png_with(png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + _compressed(256))),
        "png iCCP": png_with(png_chunk(b"iCCP", b"icc\0\0" + _compressed(256))),
        "png many chunks": png_with(png_chunk(b"tEXt", b"a\0b") * 100_000),
        "webp canvas": webp_canvas(16_383, 16_383),
        "tiff strips": tiff_of_strips(),
        "tiff size": tiff([(256, 4, 1, 2**31 - 1), (257, 4, 1, 2**31 - 1), (258, 3, 1, 8), (262, 3, 1, 1)]),
        "tiff entries": tiff([(256, 4, 0x3FFFFFFF, 8), (257, 4, 1, 200)]),
        "tiff loop": b"II*\0" + struct.pack("<I", 8) + struct.pack("<HHHIII", 1, 256, 4, 1, 200, 8),
        "bmp": bmp_header(huge, huge),
        "bmp below the limit": bmp_header(7_000, 7_000),
        "heic size": heif_with_size("HEIF", huge, huge),
        "avif size": heif_with_size("AVIF", huge, huge),
        "heic grid": heic_grid(),
    }


def malformed_exif() -> dict[str, bytes]:
    """Photographs whose pixels are fine."""
    entry = struct.pack("<HHII", 0x0112, 3, 1, 6)
    directory = struct.pack("<H", 1) + entry
    return {
        "nothing": exif_jpeg(b""),
        "no tiff": exif_jpeg(b"\xff" * 400),
        "offset beyond the end": exif_jpeg(b"II*\0" + struct.pack("<I", 0xFFFFFFF0)),
        "directory that names itself": exif_jpeg(b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 8)),
        "more entries than bytes": exif_jpeg(b"II*\0" + struct.pack("<IH", 8, 0xFFFF)),
        "count of four thousand million": exif_jpeg(
            b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x0112, 5, 0xFFFFFFFF, 8)
        ),
        "orientation 200": exif_jpeg(b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x0112, 3, 1, 200)),
        "sub directory that names its parent": exif_jpeg(
            b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x8769, 4, 1, 8) + bytes(4)
        ),
    }


def chimeras() -> dict[str, tuple[bytes, bool]]:
    """Files of two kinds at once, and whether the picture in them is taken (and then nothing but the picture)."""
    archive = b"PK\x03\x04" + bytes(26) + b"payload.exe PK\x05\x06" + bytes(18)
    page = b"<html><script>alert(document.domain)</script></html>"
    comment = b"\xff\xd8\xff\xfe" + struct.pack(">H", len(page) + 2) + page
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    return {
        "jpeg then zip": (small("JPEG") + archive, True),
        "png then zip": (small("PNG") + archive, True),
        "webp then zip": (small("WEBP") + archive, True),
        "bmp then html": (small("BMP") + page, True),
        "jpeg with html in a comment": (comment + small("JPEG")[2:], True),
        "png with html in a text chunk": (png_with(png_chunk(b"tEXt", b"Comment\0" + page)), True),
        "html then png": (page + small("PNG"), False),
        "zip then jpeg": (archive + small("JPEG"), False),
        "svg": (svg, False),
        "svg after white space": (b"\n\n  " + svg, False),
        "svg with declaration": (b'<?xml version="1.0"?>' + svg, False),
        "gif that is a script": (b"GIF89a=1;alert(1)//", False),
        "pdf then jpeg": (b"%PDF-1.7\n" + small("JPEG"), False),
        "php": (b"<?php system($_GET['c']); ?>", False),
    }  # fmt: skip


#: What no answer may hold of a chimera's other half.
PAYLOADS = (b"alert(", b"payload.exe", b"<script", b"<html")
