"""Backups between databases that DATABASE_URL names: whole or not at all, and never over anything."""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, create_engine, text

from lesionlens.backup import backup_command, read_backup, restore_command, write_backup
from services.analysis.blobs import BlobStore
from services.analysis.database import make_engine
from services.analysis.dead_letters import DeadLetters
from services.analysis.errors import BlobStoreUnavailableError
from services.analysis.keys import KeyRing, Scope
from services.analysis.record import AnalysisRecord, Lease, Submission
from services.analysis.results import Reason
from services.analysis.settings import load_settings
from services.analysis.states import PREPARE, AnalysisState


@pytest.fixture
def empty_engine(postgres_server: str) -> Iterator[Engine]:
    """A database without a schema."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    admin = create_engine(
        postgres_server.replace("postgresql://", "postgresql+psycopg2://"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = make_engine(postgres_server.replace("/postgres?", f"/{name}?"))
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore((tmp_path / "blobs").as_uri())


@pytest.fixture
def elsewhere(tmp_path: Path) -> BlobStore:
    return BlobStore((tmp_path / "elsewhere").as_uri())


@pytest.fixture
def backup(engine: Engine, blobs: BlobStore) -> bytes:
    """Of a key, an analysis under way with both blobs, a failed one, and a blob that nobody wants."""
    key, _ = KeyRing(engine).create("Clinic; \\ \t “Basel”\n", (Scope.READ,), None, None)
    record = AnalysisRecord(engine)
    for number, store in enumerate((record.on_behalf_of(key.id), record)):
        analysis_id = uuid.UUID(int=number + 1, version=4)
        blobs.put_upload(analysis_id, b"photograph %d" % number)
        store.accept(Submission(analysis_id, b"digest\x00\xff"))
    blobs.put_tensor(uuid.UUID(int=1, version=4), np.ones((224, 224, 3), np.uint8))
    blobs.put_upload(uuid.uuid4(), b"an orphan")
    lease = record.claim(uuid.UUID(int=2, version=4), PREPARE, 20, 3)
    assert isinstance(lease, Lease)
    record.fail(lease, Reason("image_missing", "It was gone."))
    file = io.BytesIO()
    write_backup(engine, blobs, load_settings({}), file)
    return file.getvalue()


def test_everything_comes_back(
    engine: Engine, empty_engine: Engine, blobs: BlobStore, elsewhere: BlobStore, backup: bytes
) -> None:
    done = read_backup(empty_engine, elsewhere, io.BytesIO(backup))

    assert done["blobs"] == 3, "the orphan stayed behind"
    for number in (1, 2):
        analysis_id = uuid.UUID(int=number, version=4)
        assert AnalysisRecord(empty_engine).find(analysis_id) == AnalysisRecord(engine).find(analysis_id)
        assert elsewhere.get_upload(analysis_id) == blobs.get_upload(analysis_id)
    assert KeyRing(empty_engine).keys() == KeyRing(engine).keys()
    assert DeadLetters(empty_engine).all() == DeadLetters(engine).all()
    assert AnalysisRecord(empty_engine).find(uuid.UUID(int=1, version=4)).state is AnalysisState.QUEUED


def test_nothing_is_overwritten(engine: Engine, empty_engine: Engine, elsewhere: BlobStore, backup: bytes) -> None:
    with pytest.raises(click.ClickException, match="database is not empty"):
        read_backup(engine, elsewhere, io.BytesIO(backup))
    elsewhere.put_upload(uuid.uuid4(), b"somebody's")
    with pytest.raises(click.ClickException, match="image store is not empty"):
        read_backup(empty_engine, elsewhere, io.BytesIO(backup))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_of_a_backup_that_is_not_whole_no_row_is_kept(
    empty_engine: Engine, elsewhere: BlobStore, backup: bytes, share: float
) -> None:
    # A tar archive ends with kilobytes of zeros, which nobody would miss.
    whole = backup.rstrip(b"\0")
    with pytest.raises(click.ClickException):
        read_backup(empty_engine, elsewhere, io.BytesIO(whole[: int(len(whole) * share)]))
    with empty_engine.connect() as connection:
        there = connection.execute(text("SELECT to_regclass('analysis')")).scalar()
        assert there is None or connection.execute(text("SELECT count(*) FROM analysis")).scalar() == 0


@pytest.mark.parametrize("last", [b"tables/", b"\tqueued\t"], ids=["between two tables", "within a table"])
def test_after_a_backup_that_was_cut_off_a_whole_one_is_restored(
    empty_engine: Engine, elsewhere: BlobStore, backup: bytes, last: bytes
) -> None:
    with pytest.raises(click.ClickException, match="whole"):
        read_backup(empty_engine, elsewhere, io.BytesIO(backup[: backup.index(last)]))

    assert read_backup(empty_engine, elsewhere, io.BytesIO(backup))["blobs"] == 3


def test_after_what_the_database_refuses_the_store_is_as_empty_as_before(
    empty_engine: Engine, elsewhere: BlobStore, backup: bytes, tmp_path: Path
) -> None:
    refused = backup.replace(b"\tqueued\t", b"\tunsaid\t")
    file = tmp_path / "refused.tar"
    file.write_bytes(refused)
    url = empty_engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    done = CliRunner().invoke(
        restore_command,
        [str(file)],
        env={"DATABASE_URL": url, "BLOB_STORE_URL": (tmp_path / "elsewhere").as_uri(), "REDIS_URL": "redis://nowhere"},
    )

    assert "The database refused: InvalidTextRepresentation." in done.output
    assert not any(elsewhere.listed())


def test_blobs_that_cannot_be_deleted_after_a_failure_are_told(
    empty_engine: Engine,
    elsewhere: BlobStore,
    backup: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unavailable(_id: uuid.UUID) -> None:
        raise BlobStoreUnavailableError

    monkeypatch.setattr(elsewhere, "delete", unavailable)
    with pytest.raises(click.ClickException, match="whole"):
        read_backup(empty_engine, elsewhere, io.BytesIO(backup[: backup.index(b"tables/")]))
    assert "delete all in it before the next restore" in capsys.readouterr().err


def test_a_name_that_leads_elsewhere_is_not_followed(
    empty_engine: Engine, elsewhere: BlobStore, backup: bytes, tmp_path: Path
) -> None:
    altered = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(backup)) as old, tarfile.open(fileobj=altered, mode="w") as new:
        for member in old:
            content = old.extractfile(member)
            if member.name.startswith("blobs/"):
                member.name = "blobs/uploads/../../escaped"
            new.addfile(member, content)
    altered.seek(0)
    with pytest.raises(click.ClickException):
        read_backup(empty_engine, elsewhere, altered)
    assert not list(tmp_path.rglob("escaped"))


def test_the_backup_of_a_newer_version_is_refused(empty_engine: Engine, elsewhere: BlobStore) -> None:
    file = io.BytesIO()
    manifest = json.dumps({"format": 1, "schema": "9999", "tables": {}}).encode()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(manifest)
        archive.addfile(member, io.BytesIO(manifest))
    file.seek(0)
    with pytest.raises(click.ClickException, match="newer version"):
        read_backup(empty_engine, elsewhere, file)


def test_where_there_is_no_database_a_backup_makes_none_and_says_where_it_looked(volume: Path) -> None:
    data = volume / "data"
    done = CliRunner().invoke(
        backup_command, [str(volume / "monday.tar")], env={"DATABASE_URL": "", "DATA_DIR": str(data)}
    )

    assert done.exit_code == 1
    assert f"There is no database in {data}. Set DATABASE_URL" in done.output
    assert not list(volume.iterdir())


@pytest.fixture
def service(engine: Engine, blobs: BlobStore, postgres_url: str, tmp_path: Path) -> dict[str, str]:
    """Settings of a service that holds nothing."""
    return {
        "DATABASE_URL": postgres_url,
        "BLOB_STORE_URL": (tmp_path / "blobs").as_uri(),
        "REDIS_URL": "redis://127.0.0.1:9/0",
    }


def backed_up(service: dict[str, str], file: Path) -> Result:
    return CliRunner().invoke(backup_command, [str(file)], env=service)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder


@pytest.fixture
def _without_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(_source: object, _target: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)


@pytest.mark.usefixtures("_without_hard_links")
def test_a_backup_needs_no_hard_links(service: dict[str, str], volume: Path) -> None:
    done = backed_up(service, volume / "monday.tar")

    assert done.exit_code == 0, done.output
    assert list(volume.iterdir()) == [volume / "monday.tar"]
    with tarfile.open(volume / "monday.tar") as archive:
        assert archive.getnames()[-1] == "end.json"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_somebody_makes_meanwhile_stays_as_it_is(
    service: dict[str, str], volume: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, links: bool
) -> None:
    if not links:
        request.getfixturevalue("_without_hard_links")
    monkeypatch.setattr("lesionlens.backup.write_backup", lambda *_: (volume / "monday.tar").write_text("somebody's"))

    done = backed_up(service, volume / "monday.tar")

    assert "exists already" in done.output
    assert list(volume.iterdir()) == [volume / "monday.tar"]
    assert (volume / "monday.tar").read_text() == "somebody's"


def test_a_folder_that_is_missing_is_named_with_what_to_do(service: dict[str, str], volume: Path) -> None:
    done = backed_up(service, volume / "nowhere" / "monday.tar")

    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit), "a sentence, not a traceback"
    assert "monday.tar could not be written: No such file or directory. Name a file in a folder" in done.output


def test_of_a_backup_that_does_not_fit_on_the_disk_nothing_is_left(
    service: dict[str, str], volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    done = backed_up(service, volume / "monday.tar")

    assert isinstance(done.exception, SystemExit), "a sentence, not a traceback"
    assert "could not be written: No space left on device." in done.output
    assert not list(volume.iterdir())
