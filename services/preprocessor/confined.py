"""`prepare_lesion` in a cell: what the worker calls, and what runs inside."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

import cv2
import numpy as np
from PIL import Image

from services.preprocessor.cell import Cell, CellAnswer, CellDeath
from services.preprocessor.imaging import DEFAULT, SIDE, PreparedLesion, QualityMeasures, Rejection, prepare_lesion
from services.preprocessor.imaging.decode import decode
from services.preprocessor.imaging.denoise import denoise
from services.preprocessor.imaging.field import lit_square
from services.preprocessor.imaging.hair import without_hair
from services.preprocessor.imaging.lesion_mask import lesion_mask
from services.preprocessor.imaging.outcomes import Frame
from services.preprocessor.imaging.quality import measure

#: A decoder died of the file, or would not come to an end: neither happens with what cameras and programs write.
UNDECODABLE = Rejection(
    "undecodable",
    "This file cannot be read safely. Take a new photo, or save this one as a JPEG and send that.",
)

_TENSOR_BYTES = SIDE * SIDE * 3
_MASK_BYTES = SIDE * SIDE // 8
#: One, and what the sum of two shares may be off by.
_ONE = 1 + 1e-9
#: Characters of a code or a sentence in an answer; ours have fewer than 200.
_MAX_WORDS = 500


class DamagedAnswerError(Exception):
    """The cell's answer is not one that the function could have given."""


@cache
def _cell() -> Cell:
    return Cell("services.preprocessor.confined:inside")


def start() -> None:
    """Starts the cell, so that the first photograph finds it there."""
    _cell().start()


def prepare_confined(data: bytes, *, force: bool = False) -> PreparedLesion | Rejection:
    """As `prepare_lesion`, with the same pixels, but in a process of its own with limits.

    A file that kills its decoder, or that needs too much memory or processor time, is a `Rejection`.

    Raises:
        CellTimeoutError: not done in time on the clock; worth another try.
    """
    return read(_cell().run(data, {"force": force}))


def warm_up() -> None:
    """Runs in the cell before its first fork: a drawn lesion with a hair across it is decoded and looked at.

    Its colours stay as they are: the linear algebra library would reserve 32 MB for good at its first use, and every
    file would have that much less to live on.
    """
    # A pool of threads would not survive the fork, and one file has one core.
    cv2.setNumThreads(1)
    Image.init()
    drawn = np.full((2 * SIDE, 2 * SIDE, 3), (224, 180, 160), np.uint8)
    cv2.circle(drawn, (SIDE, SIDE), SIDE // 2, (90, 60, 50), cv2.FILLED)
    cv2.line(drawn, (20, 40), (2 * SIDE - 40, 2 * SIDE - 20), (20, 15, 10), 4)
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, "JPEG")
    decoded = decode(file.getvalue())
    assert not isinstance(decoded, Rejection)
    square, _ = lit_square(decoded.rgb, DEFAULT)
    hairless, _ = without_hair(square, DEFAULT)
    measure(square, lesion_mask(denoise(hairless, DEFAULT), DEFAULT))


def inside(data: bytes, options: Mapping[str, object]) -> tuple[Mapping[str, object], bytes]:
    """Runs in the cell."""
    outcome = prepare_lesion(data, force=bool(options.get("force")))
    if isinstance(outcome, Rejection):
        return {"rejection": told(outcome)}, b""
    quality = outcome.quality
    head = {
        "hair_share": outcome.hair_share,
        "mask_share": outcome.mask_share,
        "source_size": list(outcome.source_size),
        "frame": asdict(outcome.frame),
        "quality": {name: float(getattr(quality, name)) for name in QualityMeasures.__slots__},
        "concerns": [told(concern) for concern in outcome.concerns],
    }
    return head, outcome.tensor.tobytes() + np.packbits(outcome.mask).tobytes()


def read(answer: CellAnswer | CellDeath) -> PreparedLesion | Rejection:
    """The outcome in an answer that nobody vouches for."""
    if isinstance(answer, CellDeath):
        return UNDECODABLE
    try:
        if "rejection" in answer.head:
            return rejection_from(answer.head["rejection"])
        return _lesion(answer.head, answer.body)
    except (DamagedAnswerError, KeyError, TypeError, ValueError):
        return UNDECODABLE


def told(rejection: Rejection) -> dict[str, Any]:
    """A reason as JSON."""
    return {"code": rejection.code, "sentence": rejection.sentence, "soft": rejection.soft}


def rejection_from(head: Mapping[str, Any]) -> Rejection:
    """A reason out of JSON.

    Raises:
        DamagedAnswerError: it is none.
    """
    code, sentence, soft = head["code"], head["sentence"], head["soft"]
    words = isinstance(code, str) and isinstance(sentence, str) and max(len(code), len(sentence)) <= _MAX_WORDS
    if not words or not isinstance(soft, bool):
        raise DamagedAnswerError
    return Rejection(code, sentence, soft)


def _lesion(head: Mapping[str, Any], body: bytes) -> PreparedLesion:
    if len(body) != _TENSOR_BYTES + _MASK_BYTES:
        raise DamagedAnswerError
    width, height = head["source_size"]
    quality = QualityMeasures(**{name: _number(head["quality"][name]) for name in QualityMeasures.__slots__})
    return PreparedLesion(
        tensor=np.frombuffer(body, np.uint8, _TENSOR_BYTES).reshape(SIDE, SIDE, 3),
        mask=np.unpackbits(np.frombuffer(body, np.uint8, offset=_TENSOR_BYTES)).reshape(SIDE, SIDE).astype(bool),
        hair_share=_number(head["hair_share"]),
        mask_share=_number(head["mask_share"]),
        quality=quality,
        source_size=(int(width), int(height)),
        frame=_frame(head["frame"]),
        concerns=tuple(rejection_from(concern) for concern in head["concerns"]),
    )


def _frame(told: Mapping[str, Any]) -> Frame:
    frame = Frame(**{name: _number(told[name]) for name in Frame.__slots__})
    lies_within = min(frame.left, frame.top) >= 0 < frame.side and max(frame.left, frame.top) + frame.side <= _ONE
    if not lies_within:
        raise DamagedAnswerError
    return frame


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise DamagedAnswerError
    return float(value)
