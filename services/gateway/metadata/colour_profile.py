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
#: No profile in use has more than a few dozen tags, or names in more languages.
_MAX_TAGS = 128
_MAX_NAMES = 64
_NAME_RECORD_BYTES = 12

#: Tags that a transformation reads: primaries, tone curves, white point and its adaptation, look-up tables.
_TRANSFORMATION_TAGS = frozenset(
    {
        b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"rTRC", b"gTRC", b"bTRC", b"chad",
        b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"D2B0", b"D2B1", b"D2B2",
    }
)  # fmt: skip

#: Where the header tells the colours that a profile is about, and tags with its name, the second for Apple's languages.
_COLOUR_SPACE = slice(16, 20)
_NAMES = frozenset({b"desc", b"dscm"})

#: Parts of the header that name software, date, maker, model, creator or the profile's digest: offset and length.
_IDENTIFYING_HEADER = ((4, 4), (24, 12), (40, 4), (48, 8), (80, 4), (84, 44))


def anonymous_profile(profile: bytes | None) -> bytes | None:
    """The profile's transformation alone; None where imaging would not apply the profile anyway.

    Imaging takes pixels for sRGB when the profile says so, is not RGB, is over-long or damaged: the same conditions.
    """
    if not profile or len(profile) > MAX_PROFILE_BYTES:
        return None
    if says_srgb(profile):
        return None
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space != "RGB " or "sRGB" in (opened.profile.profile_description or ""):
            return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return _only_transformation(profile)


def says_srgb(profile: bytes) -> bool:
    """Whether a profile calls itself sRGB in every language that it has names in, as what browsers write does.

    Asks no library: what is not put together as expected is not called anything.
    """
    if profile[_COLOUR_SPACE] != b"RGB ":
        return False
    names = [name for tag, value in _tags(profile) if tag in _NAMES for name in _names_in(value)]
    return bool(names) and all("sRGB" in name for name in names)


def _names_in(value: bytes) -> list[str]:
    """The texts of a textDescriptionType (ICC.1:2001, 6.5.17) or a multiLocalizedUnicodeType (ICC.1:2022, 10.15)."""
    if value[:4] == b"desc" and len(value) >= 12:
        (length,) = struct.unpack_from(">I", value, 8)
        return [value[12 : 12 + length].split(b"\0")[0].decode("ascii", "replace")]
    if value[:4] != b"mluc" or len(value) < 16:
        return [""]
    count, size = struct.unpack_from(">II", value, 8)
    if not 0 < count <= _MAX_NAMES or size != _NAME_RECORD_BYTES or len(value) < 16 + count * size:
        return [""]
    places = [struct.unpack_from(">II", value, 16 + index * size + 4) for index in range(count)]
    return [value[offset : offset + length].decode("utf-16-be", "replace") for length, offset in places]


def _tags(profile: bytes) -> list[tuple[bytes, bytes]]:
    """Signatures and contents of a profile's tags; none where its table is longer than any, or than the profile."""
    if len(profile) < _HEADER_BYTES + 4:
        return []
    (count,) = struct.unpack_from(">I", profile, _HEADER_BYTES)
    if count > _MAX_TAGS or len(profile) < _HEADER_BYTES + 4 + count * _TAG_ENTRY_BYTES:
        return []
    entries = [
        struct.unpack_from(">4sII", profile, _HEADER_BYTES + 4 + index * _TAG_ENTRY_BYTES) for index in range(count)
    ]
    return [(name, profile[at : at + length]) for name, at, length in entries if at + length <= len(profile)]


def _only_transformation(profile: bytes) -> bytes | None:
    header = bytearray(profile[:_HEADER_BYTES])
    for offset, length in _IDENTIFYING_HEADER:
        header[offset : offset + length] = bytes(length)
    kept = [(name, value) for name, value in _tags(profile) if name in _TRANSFORMATION_TAGS]
    if not kept:
        return None
    position = _HEADER_BYTES + 4 + len(kept) * _TAG_ENTRY_BYTES
    table, data = bytearray(struct.pack(">I", len(kept))), bytearray()
    for name, value in kept:
        table += struct.pack(">4sII", name, position + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    header[0:4] = struct.pack(">I", position + len(data))
    return bytes(header + table + data)
