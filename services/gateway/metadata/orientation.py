"""The one thing of EXIF that is kept: which way is up."""

from __future__ import annotations

import struct

#: EXIF 2.32: orientation is a SHORT in IFD 0.
_ORIENTATION_TAG = 0x0112
_SHORT = 3


def orientation_tiff(orientation: int) -> bytes:
    """A TIFF structure that holds the orientation (1–8) and nothing else, as EXIF blocks are made of."""
    header = struct.pack("<2sHI", b"II", 42, 8)
    entry = struct.pack("<HHIHH", _ORIENTATION_TAG, _SHORT, 1, orientation, 0)
    return header + struct.pack("<H", 1) + entry + struct.pack("<I", 0)
