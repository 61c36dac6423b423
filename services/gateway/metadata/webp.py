"""WebP (RFC 9649) without EXIF, XMP and unknown chunks."""

from __future__ import annotations

import struct

from services.gateway.metadata.orientation import orientation_tiff

_RIFF_HEADER_BYTES = 12
_BITSTREAM_CHUNKS = frozenset({b"VP8 ", b"VP8L", b"ALPH"})

#: Flags of the VP8X chunk.
_HAS_PROFILE, _HAS_ALPHA, _HAS_EXIF = 0x20, 0x10, 0x08
_ANIMATION = 0x02


def holds_frames(data: bytes) -> bool:
    """Whether the picture lies in an animation frame, however many there are."""
    return any(name == b"VP8X" and content[:1] and content[0] & _ANIMATION for name, content in _chunks(data))


def strip_webp(data: bytes, orientation: int, profile: bytes | None) -> bytes:
    """The picture's bit stream as it is, an orientation if it is not upright, a colour profile."""
    chunks = bytearray()
    for name, content in _chunks(data):
        if name in _BITSTREAM_CHUNKS:
            chunks += _chunk(name, content)
        elif name == b"VP8X":
            flags = (
                (content[0] & _HAS_ALPHA) | (_HAS_PROFILE if profile else 0) | (_HAS_EXIF if orientation != 1 else 0)
            )
            chunks += _chunk(name, bytes((flags,)) + content[1:10])
            # RFC 9649, section 2.7: the profile comes before the picture, EXIF after it.
            if profile:
                chunks += _chunk(b"ICCP", profile)
    if orientation != 1:
        chunks += _chunk(b"EXIF", orientation_tiff(orientation))
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + bytes(chunks)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Name and content of each chunk inside the RIFF; the last one may be cut short."""
    (declared,) = struct.unpack_from("<I", data, 4)
    end = min(len(data), 8 + int(declared))
    found = []
    position = _RIFF_HEADER_BYTES
    while position + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, position)
        found.append((name, data[position + 8 : min(position + 8 + length, end)]))
        position += 8 + length + length % 2
    return found


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
