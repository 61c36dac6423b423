"""The folder of published models: where a network's SavedModel lies, and what ``stack.json`` says of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.analysis.errors import LesionLensError
from serving.model_config import STABLE, config_file, read_config, write_config

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


class VersionTakenError(LesionLensError):
    """A network was to be written under a number that another one has."""

    problem = "version-taken"
    title = "There is a network of this version"
    advice = "Leave --version out: the next one is taken."


class ScoreLostError(LesionLensError):
    """The published models refuse what is no lesion, and those that take their place would not."""

    problem = "score-lost"
    title = "The new models would take any picture for a lesion"
    advice = (
        "Name a folder of pictures of anything but lesions with --others, as many and as different as you have; or do"
        " without with --no-others."
    )


class StackWithoutNumberError(LesionLensError):
    """The published stack is called something that no other name follows from."""

    problem = "stack-without-number"
    title = "The version of the published stack is no number"
    advice = "Say what the new stack is to be called with --stack-version."


def model_folder(models: Path, name: str, version: int) -> Path:
    """Return where a network's SavedModel lies."""
    return models / name / str(version)


def published_version(models: Path, name: str) -> int:
    """Return the version of a network that the stack in ``models`` was fitted with."""
    return int(published_entry(models, name)["version"])


def next_version(models: Path, names: Sequence[str]) -> int:
    """Return the number above all that folders of these networks have in ``models``, 1 where there are none."""
    found = [int(path.name) for name in names for path in (models / name).glob("[0-9]*") if path.name.isdecimal()]
    return max(found, default=0) + 1


def refuse_taken(models: Path, names: Sequence[str], version: int) -> None:
    """Refuse a number that a network has already: servers do not load another file under the same one.

    Raises:
        VersionTakenError: one of these networks has it.
    """
    for name in names:
        if model_folder(models, name, version).exists():
            raise VersionTakenError(f"{name} in {models} has version {version} already")


def published_familiarity(models: Path) -> dict[str, Any] | None:
    """Return the out-of-distribution score in ``models``; it belongs to the first network there."""
    score = published_stack(models)["out_of_distribution"]
    return dict(score) if score else None


def next_stack_version(published: Mapping[str, Any]) -> str:
    """Return the number after that of a ``stack.json``, 1 where it is empty.

    Raises:
        StackWithoutNumberError: its version is no number.
    """
    version = str(published.get("version", 0))
    if not version.isdecimal():
        raise StackWithoutNumberError(f"the published stack is of version {version}, which no number follows")
    return str(int(version) + 1)


def refuse_lost_score(published: Mapping[str, Any]) -> None:
    """Refuse to give up the out-of-distribution score of a ``stack.json``.

    Raises:
        ScoreLostError: it has one.
    """
    if published.get("out_of_distribution"):
        raise ScoreLostError(
            "the published models tell pictures that are no lesion by a score on their first network, which does not"
            " fit a new one: without a score such pictures would be answered as lesions, and drift would not be"
            " measured"
        )


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


def serve(models: Path, names: Sequence[str], version: int) -> None:
    """Let servers load a version of these networks, and answer from it, where ``models`` lies beside their settings."""
    configs = models.resolve().parent / "tensorflow-serving"
    for name in names:
        if config_file(configs, name).exists():
            write_config(configs, read_config(configs, name).labelled({STABLE: version}))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    text = json.dumps(content, indent=1, ensure_ascii=False)
    # Rows of numbers on one line each: a quarter of the size, and a diff that can be read.
    text = _NUMBERS.sub(lambda row: f"[{', '.join(row[1].split())}]".replace(",,", ","), text)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
