"""What the gateway does with the bytes of a photograph, in a cell (`services/preprocessor/cell`) but for plain JPEGs.

Two cells: one for what only cuts headers (JPEG, PNG, WebP), one for what has to be decoded. So files that take long to
decode wait for one another and for nobody else, and at most one large picture is in memory. A JPEG that only Python
code looks at needs no cell, whose fork costs thirty times the work: docs/adr/0018.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from functools import cache
from typing import Final

from PIL import Image

from services.gateway.metadata import is_plain_jpeg, without_metadata
from services.preprocessor.cell import Cell, CellDeath
from services.preprocessor.confined import UNDECODABLE, DamagedAnswerError, rejection_from, told
from services.preprocessor.imaging import Rejection, sniff
from services.preprocessor.imaging.decode import decode
from services.preprocessor.imaging.header import recognise
from services.preprocessor.imaging.srgb import to_srgb

#: Formats whose pixels stay as they are coded; the others are decoded and stored as PNG.
_CUT: Final = frozenset({"JPEG", "PNG", "WEBP"})
#: What a clean photograph can be, by the decoder that its first bytes ask for.
_STORED_TYPES: Final = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


#: Cleaning holds a file three times, and takes a millisecond for most: as in a cell, one is in hand and others wait.
_one_at_a_time = threading.Lock()


@cache
def _cell(decoding: bool) -> Cell:  # noqa: FBT001 - the one thing that tells the two apart
    del decoding
    return Cell("services.gateway.confined:inside")


def clean_confined(data: bytes) -> bytes | Rejection:
    """The file without metadata (`without_metadata`), or why it is refused.

    Raises:
        CellTimeoutError: it could not be read in time.
    """
    decoder = recognise(data)
    if isinstance(decoder, Rejection):
        return decoder
    if is_plain_jpeg(data):
        with _one_at_a_time:
            return _clean(data)
    answer = _cell(decoder not in _CUT).run(data, {"do": "clean"})
    if isinstance(answer, CellDeath):
        return UNDECODABLE
    try:
        if "rejection" in answer.head:
            return rejection_from(answer.head["rejection"])
    except (DamagedAnswerError, KeyError, TypeError):
        return UNDECODABLE
    return answer.body if media_type(answer.body) else UNDECODABLE


def centre_square_confined(data: bytes, side: int) -> Image.Image | None:
    """The centre square of a photograph in sRGB, `side` pixels; None when it cannot be read."""
    answer = _cell(True).run(data, {"do": "square", "side": side})  # noqa: FBT003
    if isinstance(answer, CellDeath) or len(answer.body) != side * side * 3:
        return None
    return Image.frombytes("RGB", (side, side), answer.body)


def media_type(photograph: bytes) -> str | None:
    """The type of a clean photograph by its first bytes; None for anything else."""
    decoder = recognise(photograph)
    return None if isinstance(decoder, Rejection) else _STORED_TYPES.get(decoder)


def warm_up() -> None:
    """Runs in the cell before its first fork: every decoder is loaded, and one drawn photograph goes both ways."""
    Image.init()
    file = io.BytesIO()
    Image.new("RGB", (96, 96), (224, 180, 160)).save(file, "JPEG", exif=Image.Exif())
    inside(file.getvalue(), {"do": "clean"})
    inside(file.getvalue(), {"side": 64})


def inside(data: bytes, options: Mapping[str, object]) -> tuple[Mapping[str, object], bytes]:
    """Runs in the cell."""
    side = options.get("side")
    outcome = _square(data, side) if isinstance(side, int) else _clean(data)
    return ({"rejection": told(outcome)}, b"") if isinstance(outcome, Rejection) else ({}, outcome)


def _clean(data: bytes) -> bytes | Rejection:
    header = sniff(data)
    return header if isinstance(header, Rejection) else without_metadata(data, header)


def _square(data: bytes, side: int) -> bytes | Rejection:
    decoded = decode(data, short_side=side)
    if isinstance(decoded, Rejection):
        return decoded
    height, width = decoded.rgb.shape[:2]
    length = min(height, width)
    top, left = (height - length) // 2, (width - length) // 2
    square = to_srgb(decoded.rgb[top : top + length, left : left + length], decoded.profile)
    picture = Image.fromarray(square).resize((side, side), Image.Resampling.LANCZOS)
    return picture.tobytes()
