"""Labelled images: where they lie, what their sources say about them, and the prepared squares in one file.

Three layouts are read: a folder with ``metadata.csv`` beside zip archives or plain files (the columns are those of
:class:`Sample`); the layouts in which the public datasets are published, see :mod:`training.layouts`, alone or each in
a subfolder; and a folder with one subfolder per diagnosis, named in any spelling of the vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from services.analysis.errors import LesionLensError
from services.preprocessor.imaging import DEFAULT, prepared
from services.preprocessor.imaging.decode import decode
from services.preprocessor.imaging.outcomes import Rejection
from training.layouts import is_published, read_published
from training.samples import IMAGE_SUFFIXES, Sample
from training.tables import TableNotReadError, header, rows
from training.vocabulary import Verdict

# What one's own table has to say of an image.
_COLUMNS = ("image_id", "source", "dx", "file")

# Ending of the file that tells of which folder squares were prepared.
_ROOT = ".root"

# Images that one worker prepares before it reports: large enough to hide the hand-over, small enough to spread evenly.
_CHUNK = 64

# Imaging parameters that judge a photograph, and change no pixel of it. All others count, new ones, too.
_JUDGING = (
    "max_",
    "min_side",
    "mask_",
    "dark_mean",
    "bright_mean",
    "blank_deviation",
    "blur_sharpness",
    "glare_share",
    "off_centre",
    "cut_off_share",
)


class NoImagesError(LesionLensError):
    """A folder holds no labelled image that could be used."""

    problem = "no-images"
    title = "There are no images to use"
    advice = "Name a folder of images with their diagnoses, in one of the layouts that docs/training.md describes."


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The samples under one folder; ``read`` gives an image's bytes."""

    root: Path
    samples: tuple[Sample, ...]

    def read(self, sample: Sample) -> bytes:
        """Return the bytes of one image, out of ``<source>.zip`` or from a plain file below the root."""
        file = self._file(sample)
        return file.read_bytes() if file.suffix != ".zip" else _archive(file).read(sample.file)

    def stamps(self) -> list[tuple[str, str, int, int]]:
        """Return source and name of every image, and size and time (ns) of the file that holds it; zeros for none."""
        return [(s.source, s.file, *stamp(self._file(s))) for s in self.samples]

    def _file(self, sample: Sample) -> Path:
        plain = self.root / sample.file
        return plain if plain.is_file() else self.root / f"{sample.source}.zip"


def stamp(path: Path) -> tuple[int, int]:
    """Return a file's size and when it was last changed (ns), zeros where there is none: another one has others."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=16)
def _archive(path: Path) -> zipfile.ZipFile:
    # Reading the directory of an archive with 10,000 members takes longer than decoding one of them.
    return zipfile.ZipFile(path)


def open_folder(root: Path) -> DataFolder:
    """Open a folder in any of the layouts.

    Raises:
        NoImagesError: the folder holds no table that is known and no subfolders with images.
        TableNotReadError: no reader takes its ``metadata.csv``; that subfolders are read instead would not be noticed.
    """
    table = root / "metadata.csv"
    own = _from_table(table) if table.is_file() else []
    if table.is_file() and not own and not is_published(table):
        raise TableNotReadError(f"{table} {_what_is_wrong(header(table))}")
    samples = own or read_published(root) or _from_subfolders(root)
    if not samples:
        raise NoImagesError(
            f"{root} holds no metadata.csv, no table of a published dataset and no subfolders with images"
        )
    return DataFolder(root=root, samples=tuple(samples))


def _from_table(table: Path) -> list[Sample]:
    if not set(_COLUMNS) <= set(header(table)):
        return []  # another dataset's table of the same name
    fields = Sample.__dataclass_fields__
    return [Sample(**{name: row.get(name, "") for name in fields}) for row in rows(table)]


def _what_is_wrong(columns: Sequence[str]) -> str:
    missing = [name for name in _COLUMNS if name not in columns]
    if not columns:
        return "is empty, or no text in UTF-8"
    return f"lacks the columns {', '.join(missing)}" if missing else "has no row below the names of its columns"


def _from_subfolders(root: Path) -> list[Sample]:
    return [
        Sample(
            image_id=f"{path.parent.name}/{path.stem}",
            source=root.name,
            dx=path.parent.name,
            label="",
            file=str(path.relative_to(root)),
        )
        for path in sorted(root.glob("*/*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]


def keep_known(samples: Iterable[Sample]) -> tuple[list[Sample], Counter[tuple[str, str]]]:
    """Split off what the vocabulary excludes; the counter holds ``(source, reason)``."""
    kept: list[Sample] = []
    dropped: Counter[tuple[str, str]] = Counter()
    for sample in samples:
        term = sample.term
        if term.verdict is Verdict.EXCLUDED:
            dropped[sample.source, term.reason or ""] += 1
        else:
            kept.append(sample)
    return kept, dropped


def default_cache() -> Path:
    """Return the folder for prepared images: ``LESIONLENS_TRAINING_CACHE`` or ``~/.cache/lesionlens``."""
    return Path(os.environ.get("LESIONLENS_TRAINING_CACHE") or Path.home() / ".cache" / "lesionlens")


@dataclass(frozen=True, slots=True)
class PreparedImages:
    """The squares of a list of samples.

    Attributes:
        pixels: memory-mapped uint8 ``[n,224,224,3]``, in the samples' order.
        readable: bool ``[n]``; false where the file could not be decoded (its square is grey).
    """

    pixels: np.ndarray[Any, Any]
    readable: np.ndarray[Any, Any]


def _prepare_chunk(root: Path, samples: Sequence[Sample]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    cv2.setNumThreads(1)
    folder = DataFolder(root=root, samples=())
    squares = np.full((len(samples), 224, 224, 3), 128, np.uint8)
    readable = np.zeros(len(samples), np.bool_)
    for i, sample in enumerate(samples):
        try:
            photograph = decode(folder.read(sample))
        except (FileNotFoundError, KeyError):  # the table names it; the folder or the archive lacks it
            continue
        if not isinstance(photograph, Rejection):
            squares[i] = prepared(photograph).tensor
            readable[i] = True
    return squares, readable


def _prepared(
    root: Path, chunks: Sequence[Sequence[Sample]], workers: int | None
) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    if len(chunks) <= 1:
        yield from (_prepare_chunk(root, chunk) for chunk in chunks)
        return
    # Forking would copy OpenCV's and OpenVINO's locks without the threads that hold them, and hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=context) as pool:
        yield from pool.map(_prepare_chunk, (root for _ in chunks), chunks)


def imaging_fingerprint() -> dict[str, float]:
    """Return the imaging parameters that reach the pixels; judging quality does not."""
    return {name: value for name, value in asdict(DEFAULT).items() if not name.startswith(_JUDGING)}


def _fingerprint(folder: DataFolder) -> str:
    content = {"root": str(folder.root.resolve()), "files": folder.stamps(), "imaging": imaging_fingerprint()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def prepare_images(folder: DataFolder, cache: Path, workers: int | None = None) -> PreparedImages:
    """Run the service's own preprocessing over every sample once and keep the squares in ``cache``.

    The cache is keyed by the folder's path, the list of files with their sizes and times, and the imaging parameters:
    another folder's files of the same names, a photograph put in another's place and a changed preprocessing prepare
    anew. What was prepared of the same folder before is deleted then: a photograph taken out of it must not stay as a
    square.
    """
    target = cache / f"prepared-{_fingerprint(folder)}.npy"
    flags = target.with_suffix(".readable.npy")
    if not flags.exists():
        cache.mkdir(parents=True, exist_ok=True)
        root = str(folder.root.resolve())
        target.with_suffix(_ROOT).write_text(root, encoding="utf-8")
        temporary = target.with_suffix(".partial.npy")
        shape = (len(folder.samples), 224, 224, 3)
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        readable = np.zeros(shape[0], np.bool_)
        starts = range(0, shape[0], _CHUNK)
        chunks = [folder.samples[i : i + _CHUNK] for i in starts]
        for start, (squares, good) in zip(starts, _prepared(folder.root, chunks, workers), strict=True):
            pixels[start : start + len(good)] = squares
            readable[start : start + len(good)] = good
        pixels.flush()
        temporary.replace(target)
        np.save(flags, readable)
        _delete_older(root, target)
    return PreparedImages(pixels=np.load(target, mmap_mode="r"), readable=np.load(flags))


def _delete_older(root: str, target: Path) -> None:
    for other in target.parent.glob(f"prepared-*{_ROOT}"):
        if other.stem != target.stem and other.read_text(encoding="utf-8") == root:
            for path in target.parent.glob(f"{other.stem}.*"):
                path.unlink(missing_ok=True)
