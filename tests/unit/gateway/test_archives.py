"""What is taken out of a zip archive, and what is not."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile

import pytest

from services.gateway.archives import MAX_ENTRIES, looks_like_zip, photographs_in
from services.gateway.errors import UnusableArchiveError, UploadTooLargeError


def zipped(files, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return file.getvalue()


def unpacked(archive, image=1_000_000, total=10_000_000):
    count, photographs = photographs_in(archive, image, total)
    files = list(photographs)
    assert count == len(files)
    return files


def test_files_come_in_the_archives_order():
    files = [("b/2.jpg", b"two"), ("a/1.jpg", b"one"), ("0.jpg", b"zero")]
    assert unpacked(zipped(files)) == files


@pytest.mark.parametrize("name", ["folder/", "__MACOSX/._1.jpg", ".hidden", "a/.git/x"])
def test_folders_and_hidden_files_are_left_out(name):
    assert unpacked(zipped([(name, b""), ("1.jpg", b"one")])) == [("1.jpg", b"one")]


@pytest.mark.parametrize(
    "archive",
    [
        zipped([]),
        zipped([("folder/", b"")]),
        b"PK\x03\x04 and nothing more",
        zipped([(f"{n}.jpg", b"") for n in range(101)]),
        zipped([(f"folder{n}/", b"") for n in range(MAX_ENTRIES + 1)]),
        zipped([("zeros", bytes(10_000_000))]),
    ],
    ids=["empty", "folders only", "damaged", "too many files", "too many entries", "bomb"],
)
def test_unusable_archives_are_refused(archive):
    with pytest.raises(UnusableArchiveError):
        unpacked(archive, image=20_000_000)


def test_an_encrypted_archive_is_refused():
    archive = bytearray(zipped([("1.jpg", b"one")]))
    directory = archive.rfind(b"PK\x01\x02")
    archive[directory + 8] |= 1
    with pytest.raises(UnusableArchiveError, match="encrypted"):
        unpacked(bytes(archive))


def test_a_directory_that_lies_about_sizes_is_found_out():
    archive = bytearray(zipped([("zeros", bytes(50_000_000))]))
    directory = archive.rfind(b"PK\x01\x02")
    archive[directory + 24 : directory + 28] = struct.pack("<I", 10)
    with pytest.raises(UnusableArchiveError):
        unpacked(bytes(archive), image=100_000_000, total=100_000_000)


def test_a_long_directory_is_refused_before_it_is_read():
    entry = b"PK\x01\x02" + bytes(42)
    directory = entry * 50_000
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 50_000, 50_000, len(directory), 4, 0)
    archive = b"PK\x03\x04" + directory + end
    tracemalloc.start()
    with pytest.raises(UnusableArchiveError, match="entries"):
        unpacked(archive)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(archive)


def test_a_damaged_stream_of_any_method_is_refused():
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        archive = bytearray(zipped([("1.jpg", bytes(range(256)) * 40)], method))
        archive[50:60] = b"\xff" * 10
        with pytest.raises(UnusableArchiveError):
            unpacked(bytes(archive))


def test_a_large_file_is_cut_for_the_caller_to_refuse():
    archive = zipped([("1.jpg", bytes(range(256)) * 40)], zipfile.ZIP_STORED)
    ((_, content),) = unpacked(archive, image=5_000)
    assert len(content) == 5_001


def test_the_archive_as_a_whole_has_a_limit():
    archive = zipped([(f"{n}.jpg", bytes(range(256)) * 40) for n in range(3)], zipfile.ZIP_STORED)
    with pytest.raises(UploadTooLargeError):
        unpacked(archive, total=25_000)


def test_a_zip_is_known_by_its_content():
    assert looks_like_zip(zipped([("1.jpg", b"one")]))
    assert not looks_like_zip(b"\xff\xd8\xff")
