"""Pictures of anything but lesions, prepared as uploads are: what the out-of-distribution score is taught to refuse."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from services.analysis.errors import LesionLensError
from services.preprocessor.imaging import prepared
from services.preprocessor.imaging.decode import decode
from services.preprocessor.imaging.outcomes import Rejection
from training.datasets import stamp
from training.samples import IMAGE_SUFFIXES

Array = np.ndarray[Any, Any]

# Pictures taken from one folder: an archive of five hundred near-equal textures must not outweigh the rest.
_FROM_ONE_FOLDER = 40

# Bytes of a file worth opening: icons are smaller, posters that take seconds each are larger.
_FILE_BYTES = range(8_000, 8_000_000)

# Parts of a large picture that are taken too, by side: a wallpaper's quarter is another subject, as sharp as a photo.
_PARTS = (1.0, 0.5, 0.25)
_LARGE_PX = 700

_LEAST_PX = 100


class NoOtherPicturesError(LesionLensError):
    """A folder of pictures to be refused holds none."""

    problem = "no-other-pictures"
    title = "There are no pictures of anything but lesions"
    advice = (
        f"Name a folder with hundreds of photographs of anything but skin, at least {_LEAST_PX} pixels on a side and of"
        f" {_FILE_BYTES.start // 1000} kB to {_FILE_BYTES.stop // 1_000_000} MB, at any depth."
    )


def other_pictures(root: Path, cache: Path, most: int = 5000, seed: int = 20260101) -> Array:
    """Return at most ``most`` prepared squares, uint8 ``[n,224,224,3]``, of the pictures anywhere below ``root``.

    They are kept in ``cache`` by the files' paths, sizes and times.

    Raises:
        NoOtherPicturesError: no file there is a picture worth learning from.
    """
    files = _chosen(root.resolve(), np.random.default_rng(seed))
    chosen = json.dumps([most, seed, [(str(path), *stamp(path)) for path in files]])
    target = cache / f"others-{hashlib.sha256(chosen.encode()).hexdigest()[:16]}.npy"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        squares = _squares(files, most, np.random.default_rng(seed))
        if not len(squares):
            raise NoOtherPicturesError(f"{root} holds no picture that could be used")
        temporary = target.with_suffix(".partial.npy")
        np.save(temporary, squares)
        temporary.replace(target)
    return np.asarray(np.load(target, mmap_mode="r"))


def _chosen(root: Path, rng: np.random.Generator) -> list[Path]:
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and path.stat().st_size in _FILE_BYTES:
            folders[path.parent].append(path)
    chosen = [paths[i] for paths in folders.values() for i in rng.permutation(len(paths))[:_FROM_ONE_FOLDER]]
    return [chosen[i] for i in rng.permutation(len(chosen))]


def _squares(files: list[Path], most: int, rng: np.random.Generator) -> Array:
    cv2.setNumThreads(1)
    squares: list[Array] = []
    for path in files:
        photograph = decode(path.read_bytes())
        if isinstance(photograph, Rejection) or min(photograph.rgb.shape[:2]) < _LEAST_PX:
            continue
        height, width = photograph.rgb.shape[:2]
        for share in _PARTS if min(height, width) > _LARGE_PX else (1.0,):
            side_y, side_x = int(height * share), int(width * share)
            top, left = (int(rng.integers(room + 1)) for room in (height - side_y, width - side_x))
            part = np.ascontiguousarray(photograph.rgb[top : top + side_y, left : left + side_x])
            squares.append(prepared(replace(photograph, rgb=part)).tensor)
        if len(squares) >= most:
            break
    return np.stack(squares[:most]) if squares else np.empty((0, 224, 224, 3), np.uint8)
