"""`lesionlens feedback FOLDER`: the photographs that may be used for training, and what they were confirmed as.

The folder is made to say what holds now: what was withdrawn or deleted since the last time is taken out of it again.
"""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import click

from lesionlens.database import opened_database
from services.analysis.blobs import BlobStore, S3Access
from services.analysis.errors import BlobMissingError, BlobUnreadableError
from services.analysis.record import FeedbackRecord
from services.analysis.sealing import sealing_from

#: What `lesionlens train --data FOLDER` looks for; it passes over the last column.
TABLE = "metadata.csv"
COLUMNS = ("image_id", "source", "dx", "file", "confirmed_by")
SOURCE = "feedback"
PUT_BACK = (
    "Put what BLOB_KEYS had when it was stored (a key, or plain) back, behind the newer keys, and run this again."
)
#: What this command writes and may therefore take away again. The feedback's id tells nothing about its analysis.
_OURS = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.(?:jpg|png|webp|img)")
_ENDINGS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


@click.command("feedback")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def feedback_command(folder: Path) -> None:
    """Write photographs with consent, and what they were confirmed as, into FOLDER.

    Run it again before each use: FOLDER then loses what was withdrawn or deleted since.
    """
    from services.gateway.parts import blob_store_url

    try:
        with opened_database() as (engine, settings):
            blobs = BlobStore(blob_store_url(settings), sealing_from(settings.blob_keys), S3Access.of(settings))
            count = write_feedback(FeedbackRecord(engine), blobs, folder)
    except OSError as error:
        raise click.ClickException(f"{folder}: {error.strerror}.") from error
    click.echo(f"{count} photographs with consent", err=True)


def write_feedback(record: FeedbackRecord, blobs: BlobStore, folder: Path) -> int:
    """Makes `folder` hold what may be used now; how many photographs those are.

    One that cannot be decrypted is left out with a warning: others may have been withdrawn, and have to go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, ...]] = []
    for analysis_id, feedback in record.consented():
        try:
            photograph = blobs.get_upload(analysis_id)
        except BlobMissingError:  # deleted between the question and this: then there is nothing to use
            continue
        except BlobUnreadableError as error:
            click.echo(f"{feedback.id} is left out: {error.detail} {PUT_BACK}", err=True)
            continue
        name = f"{feedback.id}.{_ending(photograph)}"
        _write(folder / name, photograph)
        rows.append((str(feedback.id), SOURCE, feedback.diagnosis, name, feedback.source))
    kept = {row[COLUMNS.index("file")] for row in rows}
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path.name not in kept:
            path.unlink()
    with (folder / TABLE).open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return len(rows)


def _ending(photograph: bytes) -> str:
    from services.gateway.confined import media_type

    return _ENDINGS.get(media_type(photograph) or "", "img")


def _write(path: Path, content: bytes) -> None:
    """For this user alone: these are pictures of people's skin."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
