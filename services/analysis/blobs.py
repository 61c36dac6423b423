"""The bytes of an analysis: the photograph as uploaded (without metadata) and the prepared tensor.

A blob's key follows from the analysis' id, so nothing has to be recorded, and deleting by id is idempotent.
"""

from __future__ import annotations

import datetime as dt
import io
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import numpy as np
import obstore
from numpy.typing import NDArray
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, S3Store, from_url

from services.analysis.errors import BlobMissingError, BlobStoreUnavailableError
from services.analysis.sealing import Sealing
from services.analysis.settings import Settings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

_UPLOADS, _TENSORS, _PROBES = "uploads", "tensors", "probes"

#: Blobs that are listed at once: one page of S3, and few enough for one question to the record.
LIST_CHUNK = 1_000

#: Seconds until a connection to S3 must stand, and one request must have ended; and how long a failed one is sent again
#: (obstore's own: three minutes, in which an upload would hang and a lease would end).
S3_CONNECT_S, S3_REQUEST_S, S3_RETRIES_S = 3, 20, 8

#: What S3 says when it is not an object that it misses.
_NO_BUCKET = "NoSuchBucket"

#: What obstore calls a file that it is still writing; it lists none of them.
_HALF_WRITTEN = re.compile(r"#\d+$")


@dataclass(frozen=True, slots=True)
class S3Access:
    """Where an S3 store is, and who asks. What is empty is taken from AWS_… or from the machine's own role."""

    endpoint: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)

    @classmethod
    def of(cls, settings: Settings) -> S3Access:
        """As the settings say."""
        return cls(settings.s3_endpoint, settings.s3_region, settings.s3_access_key_id, settings.s3_secret_access_key)

    def open(self, url: str) -> ObjectStore:
        """The store behind `s3://bucket/prefix`."""
        config: S3Config = {}
        if self.endpoint:
            config["endpoint"] = self.endpoint
        if self.region:
            config["region"] = self.region
        if self.access_key_id:
            config["access_key_id"] = self.access_key_id
            config["secret_access_key"] = self.secret_access_key
        options: ClientConfig = {
            "connect_timeout": dt.timedelta(seconds=S3_CONNECT_S),
            "timeout": dt.timedelta(seconds=S3_REQUEST_S),
        }
        # Unencrypted only where somebody wrote so: a store in the same network of containers.
        if self.endpoint.startswith("http://"):
            options["allow_http"] = True
        return S3Store.from_url(
            url,
            config=config,
            client_options=options,
            retry_config={"retry_timeout": dt.timedelta(seconds=S3_RETRIES_S)},
        )


@dataclass(frozen=True, slots=True)
class ListedBlob:
    """A blob that was found in the store, rather than by its analysis' id.

    `analysis_id` is None for what belongs to no analysis: a probe, or a file (`file`) that was never finished.
    """

    key: str
    analysis_id: uuid.UUID | None
    file: Path | None = None


def upload_key(analysis_id: uuid.UUID) -> str:
    """Where the photograph lies."""
    return f"{_UPLOADS}/{analysis_id}"


def tensor_key(analysis_id: uuid.UUID) -> str:
    """Where the prepared 224×224 pixels lie."""
    return f"{_TENSORS}/{analysis_id}"


class BlobStore:
    """Puts, gets and deletes the two blobs of an analysis in any store that obstore speaks (file, S3, …)."""

    def __init__(self, url: str, sealing: Sealing | None = None, s3: S3Access | None = None) -> None:
        """Opens `url` (`file:///folder`, `s3://bucket/prefix`); a missing folder is made. `sealing` encrypts."""
        parts = urlsplit(url)
        self._folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        if self._folder is not None:
            # Each photograph's name is its whole id, and that opens and deletes it: nobody else may list them.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._store: ObjectStore = (s3 or S3Access()).open(url) if parts.scheme == "s3" else from_url(url)
        self._sealing = sealing or Sealing()

    def put_upload(self, analysis_id: uuid.UUID, image: bytes) -> None:
        """Stores the photograph.

        Raises:
            BlobStoreUnavailableError: the store is full, read-only or away; nothing is left half-written.
        """
        with _store_errors():
            obstore.put(self._store, upload_key(analysis_id), self._sealing.seal(upload_key(analysis_id), image))

    def get_upload(self, analysis_id: uuid.UUID) -> bytes:
        """The photograph's bytes; `BlobMissingError` when it was deleted, `BlobUnreadableError` without its key."""
        with _store_errors(reading=True):
            stored = bytes(obstore.get(self._store, upload_key(analysis_id)).bytes())
        return self._sealing.open(upload_key(analysis_id), stored)

    def put_tensor(self, analysis_id: uuid.UUID, tensor: NDArray[np.uint8]) -> None:
        """Stores the prepared pixels (`uint8 [224,224,3]`) losslessly, in NumPy's own format."""
        file = io.BytesIO()
        np.save(file, tensor, allow_pickle=False)
        with _store_errors():
            sealed = self._sealing.seal(tensor_key(analysis_id), file.getvalue())
            obstore.put(self._store, tensor_key(analysis_id), sealed)

    def get_tensor(self, analysis_id: uuid.UUID) -> NDArray[np.uint8]:
        """The prepared pixels; `BlobMissingError` when they were deleted."""
        with _store_errors(reading=True):
            data = bytes(obstore.get(self._store, tensor_key(analysis_id)).bytes())
        opened = self._sealing.open(tensor_key(analysis_id), data)
        tensor: NDArray[np.uint8] = np.load(io.BytesIO(opened), allow_pickle=False)
        return tensor

    def delete(self, analysis_id: uuid.UUID) -> None:
        """Deletes both blobs. This is idempotent: what is gone stays gone."""
        self._delete(upload_key(analysis_id))
        self.delete_tensor(analysis_id)

    def delete_tensor(self, analysis_id: uuid.UUID) -> None:
        """Deletes the prepared pixels alone. This is idempotent."""
        self._delete(tensor_key(analysis_id))

    def older_than(self, seconds: float, start: uuid.UUID) -> Iterator[list[ListedBlob]]:
        """What was stored more than `seconds` ago, a chunk at a time: from the id `start` on, then from the beginning.

        Raises:
            BlobStoreUnavailableError: the store cannot be listed.
        """
        before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)
        yield [*self._half_written(before), *self._of(_PROBES, before)]
        for first in (str(start), ""):
            for prefix in (_UPLOADS, _TENSORS):
                with _store_errors():
                    listing = obstore.list(
                        self._store, prefix, offset=f"{prefix}/{first}" if first else None, chunk_size=LIST_CHUNK
                    )
                    for chunk in listing:
                        found = (_listed(meta["path"]) for meta in chunk if meta["last_modified"] < before)
                        yield [blob for blob in found if blob is not None]

    def listed(self) -> Iterator[list[ListedBlob]]:
        """Every blob of an analysis, a chunk at a time."""
        for prefix in (_UPLOADS, _TENSORS):
            with _store_errors():
                for chunk in obstore.list(self._store, prefix, chunk_size=LIST_CHUNK):
                    found = [blob for meta in chunk if (blob := _listed(meta["path"])) is not None]
                    if found:
                        yield found

    def get_raw(self, key: str) -> bytes | None:
        """A blob exactly as it is stored, for a backup; None when it is gone."""
        try:
            with _store_errors(reading=True):
                return bytes(obstore.get(self._store, key).bytes())
        except BlobMissingError:
            return None

    def put_raw(self, key: str, data: bytes) -> None:
        """Stores a blob of a backup as it was.

        Raises:
            ValueError: the key is none that a blob can have.
        """
        prefix, _, name = key.partition("/")
        if prefix not in (_UPLOADS, _TENSORS) or str(uuid.UUID(name)) != name:
            raise ValueError("no blob has this key")
        with _store_errors():
            obstore.put(self._store, key, data)

    def _of(self, prefix: str, before: dt.datetime) -> list[ListedBlob]:
        with _store_errors():
            chunk = next(iter(obstore.list(self._store, prefix, chunk_size=LIST_CHUNK)), ())
        return [ListedBlob(meta["path"], None) for meta in chunk if meta["last_modified"] < before]

    def _half_written(self, before: dt.datetime) -> Iterator[ListedBlob]:
        """Files that a process was writing when it was killed."""
        for prefix in (_UPLOADS, _TENSORS, _PROBES) if self._folder is not None else ():
            assert self._folder is not None
            with _store_errors():
                files = [file for file in (self._folder / prefix).glob("*#*") if _HALF_WRITTEN.search(file.name)]
            for file in files:
                try:
                    with _store_errors(reading=True):
                        written = file.stat().st_mtime
                except BlobMissingError:  # it has been written since, and renamed
                    continue
                if written < before.timestamp():
                    yield ListedBlob(f"{prefix}/{file.name}", None, file)

    def delete_listed(self, blob: ListedBlob) -> None:
        """Deletes what `older_than` found. This is idempotent."""
        if blob.file is None:
            self._delete(blob.key)
        else:
            with _store_errors():
                blob.file.unlink(missing_ok=True)

    def answers(self) -> bool:
        """Whether the store can be written and read now."""
        probe = f"{_PROBES}/{uuid.uuid4()}"
        try:
            with _store_errors():
                obstore.put(self._store, probe, b"?")
                obstore.delete(self._store, probe)
        except BlobStoreUnavailableError:
            return False
        return True

    def _delete(self, key: str) -> None:
        try:
            with _store_errors(reading=True):
                obstore.delete(self._store, key)
        except BlobMissingError:
            return


def _listed(key: str) -> ListedBlob | None:
    """None for what this project did not put there."""
    try:
        return ListedBlob(key, uuid.UUID(key.rpartition("/")[2]))
    except ValueError:
        return None


@contextmanager
def _store_errors(*, reading: bool = False) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        # Where nothing was to be read, or the whole bucket is gone, it is the store that is missing and not an image.
        if not reading or _NO_BUCKET in str(error):
            raise BlobStoreUnavailableError("The image store does not exist.") from error
        raise BlobMissingError("The image is no longer stored.") from error
    except (BaseError, OSError) as error:
        raise BlobStoreUnavailableError("The image store does not answer.") from error
