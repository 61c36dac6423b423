"""The one thing of EXIF that is kept: which way is up."""

from __future__ import annotations

import struct

#: EXIF 2.32: orientation is a SHORT in IFD 0.
_ORIENTATION_TAG = 0x0112
_SHORT = 3

#: Cameras write a dozen. Each may claim a value as long as the block, 64 kB, and Pillow reads all of them.
_FEW_TAGS = 60


def has_few_tags(tiff: bytes) -> bool:
    """Whether a TIFF structure, as EXIF blocks are, begins as it should and has a first directory of few tags."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return False
    (offset,) = struct.unpack_from(f"{order}I", tiff, 4)
    if offset + 2 > len(tiff):
        return False
    (count,) = struct.unpack_from(f"{order}H", tiff, offset)
    return bool(count <= _FEW_TAGS)


def orientation_tiff(orientation: int) -> bytes:
    """A TIFF structure that holds the orientation (1–8) and nothing else, as EXIF blocks are made of."""
    header = struct.pack("<2sHI", b"II", 42, 8)
    entry = struct.pack("<HHIHH", _ORIENTATION_TAG, _SHORT, 1, orientation, 0)
    return header + struct.pack("<H", 1) + entry + struct.pack("<I", 0)
