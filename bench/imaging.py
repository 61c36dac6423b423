"""Preprocessing by step, on one core: photographs of 1024 × 768 and of 12 megapixels."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from PIL import Image

from bench.machine import Machine
from bench.measuring import in_turns, ms, timed
from services.preprocessor.confined import prepare_confined
from services.preprocessor.imaging import DEFAULT, Rejection, normalise, prepare_lesion
from services.preprocessor.imaging.colour_constancy import shades_of_gray
from services.preprocessor.imaging.decode import decode
from services.preprocessor.imaging.denoise import denoise
from services.preprocessor.imaging.exposure import exposed
from services.preprocessor.imaging.falloff import evened
from services.preprocessor.imaging.field import lit_square
from services.preprocessor.imaging.hair import without_hair
from services.preprocessor.imaging.lesion_mask import lesion_mask
from services.preprocessor.imaging.quality import measure as measure_quality

#: (width, height): as a web page has it, and as a phone takes it.
SIZES = ((1024, 768), (4000, 3000))
ROUNDS = 15


def measure(machine: Machine) -> Mapping[str, Any]:
    """Median milliseconds of each step, and of all of them here and in a cell as the service does it."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return {
            f"{width}x{height}": _steps(photograph(width, height), machine.rounds(ROUNDS)) for width, height in SIZES
        }
    finally:
        cv2.setNumThreads(threads)


def photograph(width: int, height: int, seed: int = 0) -> bytes:
    """A drawn lesion with hairs, sensor noise and the detail of a sharp photograph, as a phone's JPEG (quality 90)."""
    random = np.random.default_rng(seed)
    across, down = 512, 512 * height // width
    skin = np.full((down, across, 3), (205, 160, 140), np.float32)
    skin += cv2.GaussianBlur(random.normal(0, 60, skin.shape).astype(np.float32), (0, 0), 4)
    centre = (across // 2 + seed % 7, down // 2)
    cv2.ellipse(skin, centre, (down // 4, down // 5), 20.0 + seed, 0, 360, (115, 78, 62), cv2.FILLED, cv2.LINE_AA)
    for _ in range(12):
        ends = random.integers(0, down, 4).tolist()
        cv2.line(skin, (ends[0], ends[1]), (ends[2], ends[3]), (60, 45, 38), 2, cv2.LINE_AA)
    large = cv2.resize(skin, (width, height), interpolation=cv2.INTER_CUBIC)
    large += cv2.resize(random.normal(0, 5, (height // 2, width // 2, 1)).astype(np.float32), (width, height))[
        ..., None
    ]
    large += random.normal(0, 2, (height, width, 1)).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray(large.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def _steps(file: bytes, rounds: int) -> dict[str, Any]:
    decoded = decode(file)
    assert not isinstance(decoded, Rejection)
    square, _ = lit_square(decoded.rgb, DEFAULT)
    even = evened(square, DEFAULT)
    coloured = shades_of_gray(even, DEFAULT)
    grey = exposed(coloured, DEFAULT)
    hairless, hair_share = without_hair(grey, DEFAULT)
    tensor = denoise(hairless, DEFAULT)
    mask = lesion_mask(tensor, DEFAULT)
    steps = {
        "decode": lambda: decode(file),
        "lit square to 224": lambda: lit_square(decoded.rgb, DEFAULT),
        "even light": lambda: evened(square, DEFAULT),
        "colour constancy": lambda: shades_of_gray(even, DEFAULT),
        "exposure": lambda: exposed(coloured, DEFAULT),
        "hair": lambda: without_hair(grey, DEFAULT),
        "denoise": lambda: denoise(hairless, DEFAULT),
        "lesion mask": lambda: lesion_mask(tensor, DEFAULT),
        "quality": lambda: measure_quality(square, mask),
        "all after decoding": lambda: normalise(decoded.rgb),
        "all": lambda: prepare_lesion(file, force=True),
        "all, in the cell": lambda: prepare_confined(file, force=True),
    }
    taken = in_turns({name: timed(step) for name, step in steps.items()}, rounds)
    return {
        "file_kb": len(file) // 1000,
        "hair_share": round(hair_share, 3),
        "ms": {name: ms(seconds) for name, seconds in taken.items()},
    }
