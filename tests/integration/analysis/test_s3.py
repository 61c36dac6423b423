"""The blob store on S3, against a real server of its protocol (moto's, in a thread): paging, prefixes, what is away."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from moto.server import ThreadedMotoServer
from sqlalchemy import Engine

from services.analysis.blobs import BlobStore, S3Access
from services.analysis.errors import BlobMissingError, BlobStoreUnavailableError, SettingsError
from services.analysis.record import AnalysisRecord, Submission
from services.analysis.settings import load_settings
from services.stacker.orphans import OrphanSweeper

#: Blobs that the server lists at once.
PAGE = 10
KEYS = {"S3_ACCESS_KEY_ID": "lesionlens", "S3_SECRET_ACCESS_KEY": "a secret of the tests"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        # Amazon's pages hold a thousand.
        patch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", str(PAGE))
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str) -> str:
    name = f"bucket-{uuid.uuid4().hex}"
    assert requests.put(f"{endpoint}/{name}", timeout=30).ok
    return name


def store(endpoint: str, url: str) -> BlobStore:
    return BlobStore(url, s3=S3Access.of(load_settings({"S3_ENDPOINT": endpoint, **KEYS})))


@pytest.fixture
def blobs(endpoint: str, bucket: str) -> BlobStore:
    return store(endpoint, f"s3://{bucket}/a/prefix")


def test_bytes_and_pixels_come_back_and_go(blobs: BlobStore) -> None:
    analysis_id = uuid.uuid4()
    tensor = np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)

    blobs.put_upload(analysis_id, b"photograph")
    blobs.put_tensor(analysis_id, tensor)

    assert blobs.answers()
    assert blobs.get_upload(analysis_id) == b"photograph"
    assert np.array_equal(blobs.get_tensor(analysis_id), tensor)
    for _ in range(2):
        blobs.delete(analysis_id)
    with pytest.raises(BlobMissingError):
        blobs.get_upload(analysis_id)
    with pytest.raises(BlobMissingError):
        blobs.get_tensor(analysis_id)
    assert list(blobs.listed()) == []


def test_two_prefixes_of_a_bucket_do_not_see_one_another(endpoint: str, bucket: str) -> None:
    one, other = store(endpoint, f"s3://{bucket}/one"), store(endpoint, f"s3://{bucket}/other")
    analysis_id = uuid.uuid4()
    one.put_upload(analysis_id, b"photograph")

    assert [blob.analysis_id for chunk in one.listed() for blob in chunk] == [analysis_id]
    assert list(other.listed()) == []


def test_the_sweep_of_orphans_finds_them_beyond_the_first_page_and_leaves_the_rest(
    blobs: BlobStore, engine: Engine
) -> None:
    record = AnalysisRecord(engine)
    wanted, orphans = uuid.uuid4(), [uuid.uuid4() for _ in range(3 * PAGE)]
    record.accept(Submission(wanted, upload_digest=b"photo"))
    for analysis_id in (wanted, *orphans):
        blobs.put_upload(analysis_id, b"?")

    deleted = OrphanSweeper(record, blobs, margin_s=-60.0).sweep()

    assert deleted == len(orphans)
    assert [blob.analysis_id for chunk in blobs.listed() for blob in chunk] == [wanted]


def test_what_is_younger_than_the_margin_is_left_alone(blobs: BlobStore, engine: Engine) -> None:
    blobs.put_upload(uuid.uuid4(), b"on its way to its row")

    assert OrphanSweeper(AnalysisRecord(engine), blobs).sweep() == 0


def test_a_bucket_that_does_not_exist_is_a_store_that_is_away(endpoint: str) -> None:
    blobs = store(endpoint, "s3://there-is-no-such-bucket")

    assert not blobs.answers()
    with pytest.raises(BlobStoreUnavailableError):
        blobs.put_upload(uuid.uuid4(), b"photograph")
    # Not "the image is gone", which would fail the analysis for good.
    with pytest.raises(BlobStoreUnavailableError):
        blobs.get_upload(uuid.uuid4())
    with pytest.raises(BlobStoreUnavailableError):
        list(blobs.listed())


def test_a_server_that_is_away_is_said_so(endpoint: str, bucket: str) -> None:
    # Nobody listens there: the port is one of the system's own.
    blobs = store("http://127.0.0.1:1", f"s3://{bucket}")

    assert not blobs.answers()
    with pytest.raises(BlobStoreUnavailableError):
        blobs.put_upload(uuid.uuid4(), b"photograph")


def test_keys_are_read_from_files_and_never_shown(tmp_path: Path) -> None:
    for name, value in KEYS.items():
        (tmp_path / name).write_text(f"{value}\n")

    access = S3Access.of(load_settings({f"{name}_FILE": str(tmp_path / name) for name in KEYS}))

    assert [access.access_key_id, access.secret_access_key] == list(KEYS.values())
    assert KEYS["S3_SECRET_ACCESS_KEY"] not in repr(access)


def test_half_a_key_is_refused() -> None:
    with pytest.raises(SettingsError, match="set together"):
        load_settings({"S3_ACCESS_KEY_ID": "lesionlens"})
