"""JPEG (ITU-T T.81) without application data and comments."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from services.gateway.metadata.colour_profile import says_srgb
from services.gateway.metadata.orientation import has_few_tags, orientation_tiff

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE

#: Segments that the decoder needs: frames and tables (SOF0–15, DHT, DAC), quantisation, line count, restart interval.
_CODING_SEGMENTS = frozenset({*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD} - {0xC8})

#: "JFIF" and its version; after it a neutral density (no unit, 1 : 1) and a thumbnail of no size.
_JFIF_BYTES = 7
_JFIF_REST = bytes((0, 0, 1, 0, 1, 0, 0))
#: "Adobe", version, two flags, and the colour transformation, without which CMYK and RGB files turn into other colours.
_ADOBE_BYTES = 12

#: Segments of a file whose headers are read without a cell. Cameras write about ten, progressive files some dozens.
_FEW_SEGMENTS = 100

#: What begins a segment: 0xFF and neither a stuffed byte nor a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xff]")
#: What ends entropy-coded data: a marker that is neither a stuffed byte, a fill byte nor a restart.
_NEXT_SEGMENT = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

#: Profile, the first part of one.
_WHOLE_PROFILE = b"ICC_PROFILE\0\1\1"

#: Bytes of profile in one segment: 65,535 minus length, signature and counters.
_PROFILE_PART_BYTES = 65_519


def strip_jpeg(data: bytes, orientation: int, profile: bytes | None) -> bytes:
    """The first image of the file: what its decoder reads, an orientation if it is not upright, a colour profile.

    Further images (MPF), motion clips and anything else after the end of the image are left behind. A file that is cut
    short stays cut short, for the decoder to refuse.
    """
    head, body = bytearray(), bytearray()
    for marker, start, end in _segments(data):
        content = data[start + 4 : end]
        if marker in (_SOS, _EOI) or marker in _CODING_SEGMENTS:
            body += data[start:end]
        elif marker == _APP0 and content.startswith(b"JFIF\0") and not head:
            head += _segment(_APP0, content[:_JFIF_BYTES] + _JFIF_REST)
        elif marker == _APP14 and content.startswith(b"Adobe"):
            body += _segment(_APP14, content[:_ADOBE_BYTES])
    if orientation != 1:
        head += _segment(0xE1, b"Exif\0\0" + orientation_tiff(orientation))
    return b"\xff\xd8" + bytes(head) + _profile_segments(profile) + bytes(body)


def is_plain_jpeg(data: bytes) -> bool:
    """Whether nothing but Python need look at the file to clean it, and not for long.

    Its segments are few and follow one another without a byte between them up to the end of the image, one at most is
    EXIF, with few tags, and one a colour profile, which calls itself sRGB: for another one a library in C would be
    asked. Photographs that browsers have made smaller are like this; those that tell of further images are not.
    """
    position, once = 2, set[int]()
    for count, (marker, start, end) in enumerate(_segments(data), start=1):
        if start != position or count > _FEW_SEGMENTS:
            return False
        if marker == _EOI:
            return True
        if marker == _APP2 or (marker == _APP1 and data.startswith(b"Exif", start + 4)):
            if marker in once or not _is_soon_read(marker, data[start + 4 : end]):
                return False
            once.add(marker)
        position = end
    return False


def _is_soon_read(marker: int, content: bytes) -> bool:
    if marker == _APP1:
        return has_few_tags(content.removeprefix(b"Exif\0\0"))
    return content.startswith(_WHOLE_PROFILE) and says_srgb(content[len(_WHOLE_PROFILE) :])


class _Segment(NamedTuple):
    """A marker's second byte, where its 0xFF stands, and where what belongs to it ends, for a scan its data too."""

    marker: int
    start: int
    end: int


def _segments(data: bytes) -> Iterator[_Segment]:
    """The first image's segments in order, up to its end or to where the file is cut short."""
    position = 2
    while (start := _next_marker(data, position)) is not None:
        marker = data[start + 1]
        if marker == _EOI:
            yield _Segment(marker, start, start + 2)
            return
        if marker == _SOI or 0xD0 <= marker < _SOI or marker == 0x01:
            position = start + 2
            continue
        end = _segment_end(data, start)
        if end is None:
            return
        position = _scan_end(data, end) if marker == _SOS else end
        yield _Segment(marker, start, position)


def _next_marker(data: bytes, position: int) -> int | None:
    """Where the next marker's 0xFF stands; bytes between segments are skipped, as decoders do."""
    found = _MARKER.search(data, position)
    return None if found is None else found.start()


def _segment_end(data: bytes, marker_at: int) -> int | None:
    if marker_at + 4 > len(data):
        return None
    (length,) = struct.unpack_from(">H", data, marker_at + 2)
    end = marker_at + 2 + int(length)
    return end if length >= 2 and end <= len(data) else None


def _scan_end(data: bytes, position: int) -> int:
    """Where the entropy-coded data end."""
    found = _NEXT_SEGMENT.search(data, position)
    return len(data) if found is None else found.start()


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
