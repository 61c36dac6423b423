"""Tables of images as they are saved: with commas, with Excel's semicolons, or with tabs."""

from __future__ import annotations

import csv
from pathlib import Path

from services.analysis.errors import LesionLensError

# Characters of a first line that are looked at: a file without an ending may be anything, and of one line.
_FIRST_LINE = 65_536


class TableNotReadError(LesionLensError):
    """A table that should describe the images cannot be read, or says too little."""

    problem = "table-not-read"
    title = "A table of images cannot be read"
    advice = (
        "Save it as “CSV UTF-8” with the columns that docs/training.md lists, image_id, source, dx and file at least."
        " A metadata.csv that is of something else has to be renamed; without one, subfolders are read as diagnoses."
    )


def header(table: Path) -> list[str]:
    """Return the names of a table's columns; none of what is no text."""
    try:
        # Excel begins UTF-8 with a mark, which would become a part of the first column's name.
        with table.open(newline="", encoding="utf-8-sig") as lines:
            return next(csv.reader(lines, delimiter=_delimiter(table)), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def rows(table: Path) -> list[dict[str, str]]:
    """Return a table's rows by the names of their columns; what a short row lacks is empty.

    Raises:
        TableNotReadError: it is no text in UTF-8.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            return [
                {key: (value or "").strip() for key, value in row.items() if key}
                for row in csv.DictReader(lines, delimiter=_delimiter(table))
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableNotReadError(f"{table} is no text in UTF-8 ({error})") from error


def _delimiter(table: Path) -> str:
    # Dataverse gives tabs out, too, and Excel semicolons where a comma is decimal.
    with table.open(encoding="utf-8-sig", errors="replace") as lines:
        first = lines.readline(_FIRST_LINE)
    return max(",;\t", key=first.count)
