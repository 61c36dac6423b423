"""PNG (W3C, third edition) without text, times, and what follows its end."""

from __future__ import annotations

import struct
import zlib

from services.gateway.metadata.orientation import orientation_tiff

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: What the picture is made of. Of an animated PNG the default image remains.
_PICTURE_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
#: Chunks in which an orientation or other metadata may hide.
_TEXT_CHUNKS = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})


def may_be_oriented(data: bytes) -> bool:
    """Whether any chunk could hold an orientation, so that it is worth looking for one (which decodes the file)."""
    return any(name in _TEXT_CHUNKS for name, _, _ in _chunks(data))


def strip_png(data: bytes, orientation: int, profile: bytes | None) -> bytes:
    """The picture's chunks as they are, an orientation if it is not upright, a colour profile; nothing after IEND."""
    stripped = bytearray(_SIGNATURE)
    for name, start, end in _chunks(data):
        if name in _PICTURE_CHUNKS:
            stripped += data[start:end]
        if name == b"IHDR":
            if profile:
                stripped += _chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile))
            if orientation != 1:
                stripped += _chunk(b"eXIf", orientation_tiff(orientation))
    return bytes(stripped)


def _chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    """Name, start and end of each chunk up to IEND; the last one may be cut short."""
    found = []
    position = len(_SIGNATURE)
    while position + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        name = data[position + 4 : position + 8]
        end = min(position + 12 + int(length), len(data))
        found.append((name, position, end))
        if name == b"IEND":
            break
        position = end
    return found


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
