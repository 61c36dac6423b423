"""What may be used for training leaves with its diagnosis, and what was withdrawn since is taken out again."""

from __future__ import annotations

import base64
import csv
import os
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from lesionlens.cli import main
from services.analysis.blobs import BlobStore
from services.analysis.record import AnalysisRecord, Feedback, Submission
from services.analysis.sealing import KEY_BYTES, sealing_from
from training.datasets import keep_known, open_folder

JPEG = b"\xff\xd8\xff\xe0" + bytes(32)


@pytest.fixture
def record(engine: Engine) -> AnalysisRecord:
    return AnalysisRecord(engine)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore((tmp_path / "data" / "blobs").as_uri())


@pytest.fixture
def export(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))

    def run(folder: Path) -> list[dict[str, str]]:
        done = CliRunner().invoke(main, ["feedback", str(folder)])
        assert done.exit_code == 0, done.output
        with (folder / "metadata.csv").open() as file:
            return list(csv.DictReader(file))

    return run


def photographed(record: AnalysisRecord, blobs: BlobStore, *, store: bool = True) -> uuid.UUID:
    analysis_id = record.accept(Submission(uuid.uuid4(), uuid.uuid4().bytes, store=store)).id
    blobs.put_upload(analysis_id, JPEG)
    return analysis_id


def test_only_what_may_be_used_leaves_and_what_was_withdrawn_goes(record, blobs, export, tmp_path) -> None:
    agreed, deleted, silent = (photographed(record, blobs) for _ in range(3))
    unstored = photographed(record, blobs, store=False)
    kept, withdrawn = Feedback("mel", "biopsy", consent=True), Feedback("other", "self", consent=True)
    record.add_feedback(agreed, kept)
    record.add_feedback(agreed, withdrawn)
    record.add_feedback(silent, Feedback("nv", "clinician", consent=False))
    for analysis_id in (deleted, unstored):
        record.add_feedback(analysis_id, Feedback("bcc", "biopsy", consent=True))

    folder = tmp_path / "training"
    first = export(folder)
    assert [row["dx"] for row in first] == ["mel", "other", "bcc"]
    assert first[0] == {
        "image_id": str(kept.id), "source": "feedback", "dx": "mel", "file": f"{kept.id}.jpg", "confirmed_by": "biopsy",
    }  # fmt: skip
    assert (folder / first[0]["file"]).read_bytes() == JPEG
    assert (folder / first[0]["file"]).stat().st_mode & 0o077 == 0
    learnt, left_out = keep_known(open_folder(folder).samples)
    assert [(sample.dx, sample.file) for sample in learnt] == [(row["dx"], row["file"]) for row in first[::2]]
    assert sum(left_out.values()) == 1, "what is none of the seven diagnoses teaches nothing"
    assert not any(str(agreed) in path.name for path in folder.iterdir())  # the id is the permission to read

    (folder / "notes.txt").write_text("mine")
    record.revoke_feedback(agreed, withdrawn.id)
    record.delete(deleted)
    blobs.delete(deleted)
    assert [row["file"] for row in export(folder)] == [f"{kept.id}.jpg"]
    assert {path.name for path in folder.iterdir()} == {"metadata.csv", "notes.txt", f"{kept.id}.jpg"}


def test_a_photograph_that_is_gone_is_left_out(record, blobs, export, tmp_path) -> None:
    analysis_id = photographed(record, blobs)
    record.add_feedback(analysis_id, Feedback("mel", "biopsy", consent=True))
    blobs.delete(analysis_id)
    assert export(tmp_path / "training") == []


def test_a_photograph_without_its_key_does_not_keep_in_the_folder_what_was_withdrawn(
    record, blobs, postgres_url, tmp_path
) -> None:
    old, new = (f"{name}:{base64.b64encode(os.urandom(KEY_BYTES)).decode()}" for name in ("old", "new"))
    sealed, agreed, withdrawn = (photographed(record, blobs) for _ in range(3))
    BlobStore((tmp_path / "data" / "blobs").as_uri(), sealing_from(old)).put_upload(sealed, JPEG)
    locked, kept, revoked = (Feedback("mel", "biopsy", consent=True) for _ in range(3))
    for analysis_id, feedback in ((sealed, locked), (agreed, kept), (withdrawn, revoked)):
        record.add_feedback(analysis_id, feedback)
    folder = tmp_path / "training"

    def run(blob_keys: str) -> str:
        environment = {"DATABASE_URL": postgres_url, "DATA_DIR": str(tmp_path / "data"), "BLOB_KEYS": blob_keys}
        done = CliRunner().invoke(main, ["feedback", str(folder)], env=environment)
        assert done.exit_code == 0, done.output
        return done.stderr

    run(f"{new},{old},plain")
    assert len(list(folder.glob("*.jpg"))) == 3
    record.revoke_feedback(withdrawn, revoked.id)
    warning = run(f"{new},plain")

    assert {path.name for path in folder.glob("*.jpg")} == {f"{kept.id}.jpg"}
    assert str(locked.id) in warning
    assert "the key “old”" in warning
    assert str(sealed)[:8] not in warning
    run(f"{new},{old},plain")
    assert {path.name for path in folder.glob("*.jpg")} == {f"{kept.id}.jpg", f"{locked.id}.jpg"}
