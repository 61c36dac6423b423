"""The folder of published models: where a network's SavedModel lies, and what ``stack.json`` says of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.analysis.errors import LesionLensError

# A JSON list of plain numbers, spread over lines.
_NUMBERS = re.compile(r"\[\s+((?:-?[0-9.eE+-]+,?\s+)+)\]")


class NothingPublishedError(LesionLensError):
    """A folder holds no ``stack.json``, so nothing in it is published."""

    problem = "nothing-published"
    title = "A folder holds no published networks"
    advice = (
        "Name a folder that `lesionlens export` wrote, such as serving/models; into a new one export all four networks"
        " at once, without --trained-share."
    )


def model_folder(models: Path, name: str, version: int) -> Path:
    """Return where a network's SavedModel lies."""
    return models / name / str(version)


def published_version(models: Path, name: str) -> int:
    """Return the version of a network that the stack in ``models`` was fitted with."""
    return int(published_entry(models, name)["version"])


def published_familiarity(models: Path) -> dict[str, Any] | None:
    """Return the out-of-distribution score in ``models``; it belongs to the first network there."""
    score = published_stack(models)["out_of_distribution"]
    return dict(score) if score else None


def published_stack(models: Path) -> dict[str, Any]:
    """Return the content of ``stack.json`` in ``models``.

    Raises:
        NothingPublishedError: there is none.
    """
    try:
        content: dict[str, Any] = json.loads((models / "stack.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NothingPublishedError(f"{models} holds no stack.json") from error
    return content


def published_entry(models: Path, name: str) -> dict[str, Any]:
    """Return what ``stack.json`` says of a network: its version, its checksum, its turns."""
    return next(dict(entry) for entry in published_stack(models)["networks"] if entry["name"] == name)


def move_into_place(folder: Path, target: Path) -> None:
    """Move a network's SavedModel to where it is served from, in place of one that may lie there."""
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.replace(target)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    text = json.dumps(content, indent=1, ensure_ascii=False)
    # Rows of numbers on one line each: a quarter of the size, and a diff that can be read.
    text = _NUMBERS.sub(lambda row: f"[{', '.join(row[1].split())}]".replace(",,", ","), text)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
