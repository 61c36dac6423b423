"""`lesionlens backup` and `restore`: record, photographs and versions in one file.

The tables come out of one snapshot of PostgreSQL by COPY, so any server that DATABASE_URL may name can be backed up
from here, whatever version of `pg_dump` is at hand. Blobs are copied as they lie in the store (encrypted, where they
are). A backup may be made while the service runs.

The file is a tar archive: `manifest.json`, `blobs/…`, `tables/<name>.copy`, and last `end.json`, without which it is
not whole.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import os
import subprocess
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import click
import psycopg2  # type: ignore[import-untyped]
from psycopg2.errors import QueryCanceled  # type: ignore[import-untyped]
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from lesionlens.database import refuse_no_database
from lesionlens.refusals import refusals
from services.analysis.blobs import BlobStore, S3Access
from services.analysis.database import database_errors, make_engine
from services.analysis.errors import BlobStoreUnavailableError
from services.analysis.migrations import migrate
from services.analysis.record import Upkeep
from services.analysis.settings import Settings, load_settings
from services.analysis.tables import Base

FORMAT = 1
#: Seconds an embedded PostgreSQL that is started for this may take, recovery after a crash included.
_STARTS_WITHIN_S = 60.0
_POLL_S = 0.1
#: Bytes of one table that are kept in memory; larger ones go through a temporary file.
_SPOOL_BYTES = 16_000_000


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup_command(file: Path) -> None:
    """Write everything that was accepted and answered to FILE, which must not exist yet.

    FILE holds photographs of people and what was found out about them: keep it as safely as the service itself.
    """
    if os.path.lexists(file):
        raise _taken(file)
    with _service() as (engine, blobs, settings), _new_file(file) as stream:
        written = write_backup(engine, blobs, settings, stream)
    click.echo(f"{file}: {_words(written)}")


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def restore_command(file: Path) -> None:
    """Bring FILE back into an empty database and an empty image store; where there is anything, nothing is done."""
    with _service(may_make_database=True) as (engine, blobs, _), file.open("rb") as stream:
        read = read_backup(engine, blobs, stream)
    click.echo(f"{file}: {_words(read)} are back")


def write_backup(engine: Engine, blobs: BlobStore, settings: Settings, stream: IO[bytes]) -> dict[str, Any]:
    """Writes the archive; how many rows and blobs are in it.

    The tables are read first: a blob that comes later is in nobody's row, one that goes meanwhile is past its retention
    or deleted, and its row says so the next time it is asked.
    """
    with ExitStack() as spools, tarfile.open(fileobj=stream, mode="w|") as archive:
        tables, schema, columns = _read_tables(engine, spools)
        _add(archive, "manifest.json", _json(_manifest(settings, schema, columns)))
        copied = 0
        for key in _wanted_blobs(Upkeep(engine), blobs):
            data = blobs.get_raw(key)
            if data is not None:
                _add(archive, f"blobs/{key}", data)
                copied += 1
        rows = {}
        for name, (spool, count) in tables.items():
            member = tarfile.TarInfo(f"tables/{name}.copy")
            member.size = spool.seek(0, io.SEEK_END)
            spool.seek(0)
            archive.addfile(member, spool)
            rows[name] = count
        written = {"rows": rows, "blobs": copied}
        _add(archive, "end.json", _json(written))
    return written


def read_backup(engine: Engine, blobs: BlobStore, stream: IO[bytes]) -> dict[str, Any]:
    """Reads the archive into an empty service: first the blobs, then all rows in one transaction.

    Where that fails, the blobs are deleted again, so that a whole backup can be restored next.

    Raises:
        click.ClickException: there is something already, or the archive is not whole; then no row was written.
    """
    with _readable(stream) as archive:
        manifest = json.loads(_first(archive, "manifest.json"))
        if manifest.get("format") != FORMAT:
            raise click.ClickException("This is not a backup that this version can read.")
        _refuse_what_is_there(engine, blobs)
        _migrate_to(engine, manifest["schema"])
        done: dict[str, Any] = {"rows": {}, "blobs": 0}
        end: dict[str, Any] | None = None
        with _deleted_on_failure(blobs) as put, database_errors(), engine.begin() as connection:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            for member in archive:
                kind, _, name = member.name.partition("/")
                content = archive.extractfile(member)
                assert content is not None
                if kind == "blobs":
                    put.add(uuid.UUID(name.rpartition("/")[2]))
                    blobs.put_raw(name, content.read())
                    done["blobs"] += 1
                elif kind == "tables":
                    table = name.removesuffix(".copy")
                    done["rows"][table] = _copy_in(connection, table, manifest["tables"][table], content)
                elif member.name == "end.json":
                    end = json.loads(content.read())
            if end != done:
                raise click.ClickException("The backup is not whole: nothing was put into the record.")
    migrate(engine)
    return done


@contextmanager
def _deleted_on_failure(blobs: BlobStore) -> Iterator[set[uuid.UUID]]:
    """Takes the ids whose blobs are put; when what is inside fails, or is interrupted, these are deleted."""
    put: set[uuid.UUID] = set()
    try:
        yield put
    except BaseException:
        try:
            for analysis_id in put:
                blobs.delete(analysis_id)
        except BlobStoreUnavailableError:
            click.echo("Photographs stayed in the image store; delete all in it before the next restore.", err=True)
        raise


@contextmanager
def _new_file(file: Path) -> Iterator[IO[bytes]]:
    """Has the name of `file` only once all of it is on the disk; nothing is left of one that does not get there.

    Raises:
        click.ClickException: there is a file of this name, or it cannot be written.
    """
    unfinished = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        try:
            with os.fdopen(_make(unfinished), "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            _give_name(unfinished, file)
        finally:
            unfinished.unlink(missing_ok=True)
    except FileExistsError as error:
        raise _taken(file) from error
    except OSError as error:
        raise click.ClickException(
            f"{file} could not be written: {error.strerror or error}. Name a file in a folder that exists, that you may"
            f" write to and that has room for it; large tables also take room where temporary files go (TMPDIR)."
        ) from error


def _taken(file: Path) -> click.ClickException:
    return click.ClickException(f"{file} exists already; a backup overwrites nothing.")


def _make(file: Path) -> int:
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _give_name(unfinished: Path, file: Path) -> None:
    """Unlike a rename alone, it fails where somebody has made `file` meanwhile."""
    try:
        os.link(unfinished, file)
    except FileExistsError:
        raise
    except OSError:
        # There are no hard links (vfat, exFAT, many network shares): take the name first, then replace what has it.
        os.close(_make(file))
        try:
            unfinished.replace(file)
        except OSError:
            file.unlink()
            raise


def _read_tables(
    engine: Engine, spools: ExitStack
) -> tuple[dict[str, tuple[IO[bytes], int]], str, dict[str, list[str]]]:
    tables: dict[str, tuple[IO[bytes], int]] = {}
    with database_errors(), engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        schema = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        columns = {
            table.name: [column["name"] for column in inspect(connection).get_columns(table.name)]
            for table in Base.metadata.sorted_tables
        }
        for name, names in columns.items():
            spool = spools.enter_context(tempfile.SpooledTemporaryFile(_SPOOL_BYTES))  # noqa: SIM115 - the stack closes it
            with _cursor(connection) as cursor:
                cursor.copy_expert(f"COPY {_listed(name, names)} TO STDOUT", spool)
                tables[name] = spool, cursor.rowcount
    return tables, str(schema), columns


def _copy_in(connection: Connection, table: str, columns: list[str], content: IO[bytes]) -> int:
    with _cursor(connection) as cursor:
        try:
            cursor.copy_expert(f"COPY {_listed(table, columns)} FROM STDIN", content)
        except QueryCanceled as error:
            raise EOFError from error  # what psycopg2 makes of an archive that ends within a table
        rows = int(cursor.rowcount)
        # COPY brings the numbers along but does not move the counters that give the next ones.
        cursor.execute(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND table_name = %s AND is_identity = 'YES'",
            (table,),
        )
        for (column,) in cursor.fetchall():
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence(%s, %s), max({_quoted(column)})) FROM {_quoted(table)}",  # noqa: S608 - quoted # nosec B608
                (_quoted(table), column),
            )
    return rows


@contextmanager
def _cursor(connection: Connection) -> Iterator[Any]:
    cursor = connection.connection.cursor()
    try:
        yield cursor
    finally:
        cursor.close()


def _listed(table: str, columns: list[str]) -> str:
    """Only names that the schema declares or an own backup holds; quoted all the same."""
    return f"{_quoted(table)} ({', '.join(map(_quoted, columns))})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _wanted_blobs(record: Upkeep, blobs: BlobStore) -> Iterator[str]:
    for chunk in blobs.listed():
        wanted = record.with_images([blob.analysis_id for blob in chunk if blob.analysis_id is not None])
        yield from (blob.key for blob in chunk if blob.analysis_id in wanted)


def _refuse_what_is_there(engine: Engine, blobs: BlobStore) -> None:
    with database_errors(), engine.connect() as connection:
        there = set(inspect(connection).get_table_names())
        for table in Base.metadata.sorted_tables:
            if table.name in there and connection.execute(table.select().limit(1)).first() is not None:
                raise click.ClickException("The database is not empty; a restore overwrites nothing.")
    if any(blobs.listed()):
        raise click.ClickException("The image store is not empty; a restore overwrites nothing.")


def _migrate_to(engine: Engine, schema: str) -> None:
    """An empty database in the form that the backup was made from; its rows are migrated from there."""
    from alembic.util import CommandError

    try:
        with database_errors(), engine.connect() as connection:
            made = inspect(connection).has_table("alembic_version")
        if made:
            migrate(engine, "base")
        migrate(engine, schema)
    except CommandError as error:
        raise click.ClickException("The backup was made by a newer version of LesionLens; install that.") from error


def _manifest(settings: Settings, schema: str, columns: dict[str, list[str]]) -> dict[str, Any]:
    stack = settings.models_dir / "stack.json"
    with contextlib.suppress(OSError, ValueError):
        model: str | None = str(json.loads(stack.read_text())["version"])
        return {"format": FORMAT, "schema": schema, "made_at": _now(), "model_version": model, "tables": columns}
    return {"format": FORMAT, "schema": schema, "made_at": _now(), "model_version": None, "tables": columns}


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1).encode()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


@contextmanager
def _readable(stream: IO[bytes]) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            yield archive
    except (tarfile.TarError, EOFError, KeyError, ValueError) as error:
        raise click.ClickException("This is no whole backup: nothing was put into the record.") from error


def _first(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.next()
    content = archive.extractfile(member) if member is not None and member.name == name else None
    if content is None:
        raise click.ClickException("This is not a backup.")
    return content.read()


def _words(counted: dict[str, Any]) -> str:
    return f"{counted['rows'].get('analysis', 0)} analyses and {counted['blobs']} blobs"


@contextmanager
def _service(*, may_make_database: bool = False) -> Iterator[tuple[Engine, BlobStore, Settings]]:
    from services.gateway.parts import blob_store_url

    try:
        with refusals(), ExitStack() as closing:
            settings = load_settings()
            url = closing.enter_context(embedded_database(settings, may_make=may_make_database))
            engine = make_engine(url, pool_size=2)
            closing.callback(engine.dispose)
            yield engine, BlobStore(blob_store_url(settings), s3=S3Access.of(settings)), settings
    except (DBAPIError, psycopg2.Error) as error:  # COPY goes past SQLAlchemy, and so do its errors
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise click.ClickException(f"The database refused: {type(reason).__name__}.") from error


@contextmanager
def embedded_database(settings: Settings, *, may_make: bool = False) -> Iterator[str]:
    """The URL of the setting, or of the embedded database, which is started for this when `make run` does not run.

    `may_make`: where there is none, an empty one is made; otherwise the command ends.
    """
    if settings.database_url:
        yield settings.database_url
        return
    from lesionlens.supervisor.folder_lock import FolderInUseError, FolderLock
    from lesionlens.supervisor.postgres import EmbeddedPostgres, PostgresError

    folder = settings.data_dir.resolve()
    if not may_make:
        refuse_no_database(folder)
    (folder / "run").mkdir(parents=True, exist_ok=True)
    postgres = EmbeddedPostgres(folder / "postgres", folder / "run")
    if postgres.answers():
        yield postgres.url
        return
    try:
        with FolderLock(folder) as lock:
            lock.acquire("a backup or restore")
            postgres.create(lambda sentence: click.echo(sentence, err=True))
            with _running(postgres) as url:
                yield url
    except (FolderInUseError, PostgresError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _running(postgres: Any) -> Iterator[str]:
    program = postgres.program(os.environ)
    program.before_start()
    account = program.account
    process = subprocess.Popen(
        program.command,
        env=dict(program.environment),
        stdin=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )
    try:
        end = time.monotonic() + _STARTS_WITHIN_S
        while not postgres.answers():
            if process.poll() is not None or time.monotonic() > end:
                raise click.ClickException("The embedded PostgreSQL did not start; its last lines above say why.")
            time.sleep(_POLL_S)
        yield postgres.url
    finally:
        process.send_signal(program.stop_signal)
        process.wait()
