"""Photographs out of a zip archive that nobody vouches for: counted, measured while unpacked, never on disk."""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Final

from services.gateway.errors import UnusableArchiveError, UploadTooLargeError

#: Photographs in one batch, so that its progress and its CSV stay one page and its request a minute.
MAX_BATCH_IMAGES: Final = 100
#: Entries looked at, folders and hidden files included.
MAX_ENTRIES: Final = 2_000
#: What each entry of an archive's directory begins with.
_ENTRY: Final = b"PK\x01\x02"
#: What a damaged stream raises, by its method.
_DAMAGED: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError, ValueError)
#: Unpacked bytes for one byte of the archive. Photographs hardly shrink; only made pictures of one colour reach 1,000.
MAX_RATIO: Final = 200

_CHUNK_BYTES: Final = 65_536


def looks_like_zip(data: bytes) -> bool:
    """Whether the bytes begin as a zip archive does."""
    return data[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def photographs_in(
    archive: bytes, max_image_bytes: int, max_total_bytes: int
) -> tuple[int, Iterator[tuple[str, bytes]]]:
    """How many files there are, and name and content of each in the archive's order.

    Folders, hidden files and macOS' side files are left out. A file beyond `max_image_bytes` comes cut off one byte
    above it, for the caller to refuse by itself.

    Raises:
        UnusableArchiveError: damaged, encrypted, too many files, or packed beyond `MAX_RATIO`.
        UploadTooLargeError: more than `max_total_bytes` in all.
    """
    # The directory is read as a whole, some five hundred bytes of memory for each entry: they are counted before.
    if archive.count(_ENTRY) > MAX_ENTRIES:
        raise UnusableArchiveError(f"The archive has more than {MAX_ENTRIES:,} entries.")
    with _damage_is_told():
        opened = zipfile.ZipFile(io.BytesIO(archive))
        entries = _photographs(opened)
    return len(entries), _contents(opened, entries, max_image_bytes, max_total_bytes, MAX_RATIO * len(archive))


def _contents(
    opened: zipfile.ZipFile,
    entries: Sequence[zipfile.ZipInfo],
    max_image_bytes: int,
    max_total_bytes: int,
    allowed: int,
) -> Iterator[tuple[str, bytes]]:
    unpacked = 0
    for entry in entries:
        with _damage_is_told():
            content = _unpack(opened, entry, max_image_bytes, allowed - unpacked)
        unpacked += len(content)
        if unpacked > max_total_bytes:
            raise UploadTooLargeError(f"The archive unpacks to more than {max_total_bytes:,} bytes.")
        yield entry.filename, content


@contextmanager
def _damage_is_told() -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise UnusableArchiveError("The archive is damaged or of a kind that cannot be read.") from error


def _photographs(opened: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    entries = [entry for entry in opened.infolist() if not entry.is_dir() and not _is_hidden(entry.filename)]
    if not entries:
        raise UnusableArchiveError("There are no files in the archive.")
    if len(entries) > MAX_BATCH_IMAGES:
        raise UnusableArchiveError(f"The archive has {len(entries)} files; at most {MAX_BATCH_IMAGES} are taken.")
    if any(entry.flag_bits & 0x1 for entry in entries):
        raise UnusableArchiveError("The archive is encrypted.")
    return entries


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _unpack(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, max_bytes: int, allowed: int) -> bytes:
    """What comes out is counted as it comes: the sizes in an archive's directory are its maker's claims."""
    content = bytearray()
    with opened.open(entry) as packed:
        while len(content) <= max_bytes:
            chunk = packed.read(_CHUNK_BYTES)
            if not chunk:
                break
            content += chunk
            if len(content) > allowed:
                raise UnusableArchiveError(f"The archive unpacks to more than {MAX_RATIO} times its size.")
    return bytes(content[: max_bytes + 1])
