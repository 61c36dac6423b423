"""JPEG (ITU-T T.81) without application data and comments."""

from __future__ import annotations

import struct

from services.gateway.metadata.orientation import orientation_tiff

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_APP0, _APP14 = 0xE0, 0xEE

#: Segments that the decoder needs: frames and tables (SOF0–15, DHT, DAC), quantisation, line count, restart interval.
_CODING_SEGMENTS = frozenset({*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD} - {0xC8})

#: "JFIF" and its version; after it a neutral density (no unit, 1 : 1) and a thumbnail of no size.
_JFIF_BYTES = 7
_JFIF_REST = bytes((0, 0, 1, 0, 1, 0, 0))
#: "Adobe", version, two flags, and the colour transformation, without which CMYK and RGB files turn into other colours.
_ADOBE_BYTES = 12

#: Bytes of profile in one segment: 65,535 minus length, signature and counters.
_PROFILE_PART_BYTES = 65_519


def strip_jpeg(data: bytes, orientation: int, profile: bytes | None) -> bytes:
    """The first image of the file: what its decoder reads, an orientation if it is not upright, a colour profile.

    Further images (MPF), motion clips and anything else after the end of the image are left behind. A file that is cut
    short stays cut short, for the decoder to refuse.
    """
    head, body = bytearray(), bytearray()
    position = 2
    while (marker_at := _next_marker(data, position)) is not None:
        marker = data[marker_at + 1]
        if marker == _EOI:
            body += b"\xff\xd9"
            break
        if marker == _SOI or 0xD0 <= marker < _SOI or marker == 0x01:
            position = marker_at + 2
            continue
        end = _segment_end(data, marker_at)
        if end is None:
            break
        content = data[marker_at + 4 : end]
        position = end
        if marker == _SOS:
            position = _scan_end(data, end)
            body += data[marker_at:position]
        elif marker in _CODING_SEGMENTS:
            body += data[marker_at:end]
        elif marker == _APP0 and content.startswith(b"JFIF\0") and not head:
            head += _segment(_APP0, content[:_JFIF_BYTES] + _JFIF_REST)
        elif marker == _APP14 and content.startswith(b"Adobe"):
            body += _segment(_APP14, content[:_ADOBE_BYTES])
    if orientation != 1:
        head += _segment(0xE1, b"Exif\0\0" + orientation_tiff(orientation))
    return b"\xff\xd8" + bytes(head) + _profile_segments(profile) + bytes(body)


def _next_marker(data: bytes, position: int) -> int | None:
    """Where the next marker's 0xFF stands; bytes between segments are skipped, as decoders do."""
    while True:
        found = data.find(b"\xff", position)
        if found < 0 or found + 1 >= len(data):
            return None
        if data[found + 1] not in (0x00, 0xFF):
            return found
        position = found + 1


def _segment_end(data: bytes, marker_at: int) -> int | None:
    if marker_at + 4 > len(data):
        return None
    (length,) = struct.unpack_from(">H", data, marker_at + 2)
    end = marker_at + 2 + int(length)
    return end if length >= 2 and end <= len(data) else None


def _scan_end(data: bytes, position: int) -> int:
    """Where the entropy-coded data end: at a marker that is neither a stuffed byte, a fill byte nor a restart."""
    while True:
        found = data.find(b"\xff", position)
        if found < 0 or found + 1 >= len(data):
            return len(data)
        following = data[found + 1]
        if following == 0xFF:
            position = found + 1
        elif following == 0x00 or 0xD0 <= following <= 0xD7:
            position = found + 2
        else:
            return found


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _profile_segments(profile: bytes | None) -> bytes:
    if not profile:
        return b""
    parts = [profile[at : at + _PROFILE_PART_BYTES] for at in range(0, len(profile), _PROFILE_PART_BYTES)]
    return b"".join(
        _segment(0xE2, b"ICC_PROFILE\0" + bytes((number, len(parts))) + part)
        for number, part in enumerate(parts, start=1)
    )
