"""A file and what became of it, as a row of a table or as JSON: the same for every command that classifies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.analysis.results import CLASSES, NETWORKS, Result
from services.analysis.states import AnalysisState

#: Files that a folder is searched for; a file named outright is always tried.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif"})


@dataclass(frozen=True, slots=True)
class Classified:
    """One file and what became of it.

    `readable`: it was an image. A `reason` beside a `result` is one that `force` overruled.
    """

    file: str
    state: AnalysisState
    readable: bool
    reason: str = ""
    result: Result | None = None


def image_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files named, and the images in the folders named, in the order of their names."""
    for path in paths:
        if path.is_dir():
            yield from sorted(
                file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
            )
        else:
            yield path


COLUMNS = (
    "file", "state", "reason", "probability", "band",
    *(f"logit_{name}" for name in NETWORKS), *(f"class_{name}" for name in CLASSES),
)  # fmt: skip


def row(classified: Classified) -> list[str]:
    """One CSV row; numbers in full precision, so that two runs can be compared."""
    cells = [classified.file, classified.state.value, classified.reason]
    result = classified.result
    if result is None:
        return cells + [""] * (len(COLUMNS) - len(cells))
    cells += [repr(result.probability), result.band.value]
    cells += [repr(opinion.logit) for opinion in result.networks]
    cells += [repr(probability) for _, probability in result.classes]
    return cells


def document(classified: Classified) -> dict[str, Any]:
    """One file as JSON."""
    result = None
    if classified.result is not None:
        result = asdict(classified.result)
        # Beside the reason there is nothing to add, and nobody asked for an explanation.
        del result["doubts"], result["explanation"]
    return {
        "file": classified.file,
        "state": classified.state.value,
        "reason": classified.reason or None,
        "result": result,
    }
