"""Bytes go in and come out as they were, and go when they are told to."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest

from services.analysis.blobs import BlobStore
from services.analysis.errors import BlobMissingError, BlobStoreUnavailableError


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore((tmp_path / "a folder" / "blobs").as_uri())


def test_pixels_come_back_losslessly(blobs: BlobStore) -> None:
    tensor = np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)
    analysis_id = uuid.uuid4()
    blobs.put_tensor(analysis_id, tensor)
    assert np.array_equal(blobs.get_tensor(analysis_id), tensor)


def test_nobody_else_on_the_machine_may_list_or_read_photographs(blobs: BlobStore, tmp_path: Path) -> None:
    blobs.put_upload(uuid.uuid4(), b"photograph")

    assert (tmp_path / "a folder" / "blobs").stat().st_mode & 0o077 == 0


def test_a_folder_that_is_there_already_keeps_the_mode_its_operator_gave_it(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume").chmod(0o750)

    BlobStore((tmp_path / "volume").as_uri())

    assert (tmp_path / "volume").stat().st_mode & 0o777 == 0o750


def test_deletion_is_complete_and_may_be_repeated(blobs: BlobStore, tmp_path: Path) -> None:
    analysis_id = uuid.uuid4()
    blobs.put_upload(analysis_id, b"photograph")
    blobs.put_tensor(analysis_id, np.zeros((224, 224, 3), np.uint8))
    assert blobs.get_upload(analysis_id) == b"photograph"
    blobs.delete(analysis_id)
    blobs.delete(analysis_id)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(BlobMissingError):
        blobs.get_upload(analysis_id)
    with pytest.raises(BlobMissingError):
        blobs.get_tensor(analysis_id)


def test_a_store_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    blobs = BlobStore(folder.as_uri())
    assert blobs.answers()
    shutil.rmtree(folder)
    folder.write_text("a file where the folder was")
    assert not blobs.answers()
    with pytest.raises(BlobStoreUnavailableError):
        blobs.put_upload(uuid.uuid4(), b"photograph")
