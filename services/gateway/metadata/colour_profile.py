"""ICC profiles without the device they came from (ICC.1:2022, clause 7).

Profiles of displays carry maker, model and serial number in private tags; profiles of cameras carry dates. The
transformation to sRGB needs none of it.
"""

from __future__ import annotations

import io
import struct

from PIL import ImageCms

from services.preprocessor.imaging.srgb import MAX_PROFILE_BYTES

_HEADER_BYTES = 128
_TAG_ENTRY_BYTES = 12
#: No profile in use has more than a few dozen.
_MAX_TAGS = 128

#: Tags that a transformation reads: primaries, tone curves, white point and its adaptation, look-up tables.
_TRANSFORMATION_TAGS = frozenset(
    {
        b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"rTRC", b"gTRC", b"bTRC", b"chad",
        b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"D2B0", b"D2B1", b"D2B2",
    }
)  # fmt: skip

#: Parts of the header that name software, date, maker, model, creator or the profile's digest: offset and length.
_IDENTIFYING_HEADER = ((4, 4), (24, 12), (40, 4), (48, 8), (80, 4), (84, 44))


def anonymous_profile(profile: bytes | None) -> bytes | None:
    """The profile's transformation alone; None where imaging would not apply the profile anyway.

    Imaging takes pixels for sRGB when the profile says so, is not RGB, is over-long or damaged: the same conditions.
    """
    if not profile or len(profile) > MAX_PROFILE_BYTES:
        return None
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space != "RGB " or "sRGB" in (opened.profile.profile_description or ""):
            return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return _only_transformation(profile)


def _only_transformation(profile: bytes) -> bytes | None:
    header = bytearray(profile[:_HEADER_BYTES])
    for offset, length in _IDENTIFYING_HEADER:
        header[offset : offset + length] = bytes(length)
    (count,) = struct.unpack_from(">I", profile, _HEADER_BYTES)
    if count > _MAX_TAGS or len(profile) < _HEADER_BYTES + 4 + count * _TAG_ENTRY_BYTES:
        return None
    kept: list[tuple[bytes, bytes]] = []
    for index in range(count):
        entry = _HEADER_BYTES + 4 + index * _TAG_ENTRY_BYTES
        name, offset, length = struct.unpack_from(">4sII", profile, entry)
        if name in _TRANSFORMATION_TAGS and offset + length <= len(profile):
            kept.append((name, profile[offset : offset + length]))
    position = _HEADER_BYTES + 4 + len(kept) * _TAG_ENTRY_BYTES
    table, data = bytearray(struct.pack(">I", len(kept))), bytearray()
    for name, value in kept:
        table += struct.pack(">4sII", name, position + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    header[0:4] = struct.pack(">I", position + len(data))
    return bytes(header + table + data)
