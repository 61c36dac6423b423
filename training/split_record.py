"""Of which split a training was: one image more or less deals all sides anew, and what was kept apart would leak.

The record lies beside the weights, ``runs/<network>/split.json``. Trainings from before there was one have none; of
those nothing is known, as of published networks whose ``stack.json`` names no split.
"""

from __future__ import annotations

import json
from pathlib import Path

from services.analysis.errors import LesionLensError
from training.models_folder import published_stack, write_json

_RECORD = "split.json"

# Stands for a fingerprint where there is none: it equals that of no images.
UNKNOWN = "unknown"


class OtherSplitError(LesionLensError):
    """A training saw other images as its training side than those that are on it now."""

    problem = "other-split"
    title = "The images changed since a network was trained"
    advice = "Bring the folder of images back to what it was, or delete the network's folder of the run and train anew."


def begin(folder: Path, split: str, started_from: str | None) -> None:
    """Record the split of a training that begins in ``folder``, or hold one that goes on against its record.

    Args:
        folder: ``runs/<network>``.
        split: fingerprint of the images' split.
        started_from: fingerprint that the published networks it starts from have, if it starts from such.

    Raises:
        OtherSplitError: a training was begun there with another split.
    """
    if (folder / "progress.json").exists():
        hold_against(folder, split)
    else:
        write_json(folder / _RECORD, {"split": split, "started_from": started_from})


def hold_against(folder: Path, split: str) -> None:
    """Refuse a training that was begun with another split.

    Raises:
        OtherSplitError: it was.
    """
    record = _read(folder)
    if record and record["split"] != split:
        raise OtherSplitError(
            f"{folder.name} was trained on other images: some were added to the folder, or taken out, since it began in"
            f" {folder}, and sides were dealt anew; it may have learnt from what it would now be measured on"
        )


def splits_of(folder: Path) -> set[str]:
    """Return the fingerprints of all splits that a training may have seen: its own, and its start's."""
    record = _read(folder)
    return {split for split in record.values() if split} if record else {UNKNOWN}


def published_split(models: Path) -> str:
    """Return the fingerprint of all that the published networks have seen, :data:`UNKNOWN` where none is named."""
    return str(published_stack(models).get("split") or UNKNOWN)


def _read(folder: Path) -> dict[str, str | None]:
    try:
        record: dict[str, str | None] = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return record
