"""A file is recognised by its content and measured before a pixel of it is decoded."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.preprocessor.imaging import (
    ImageHeader,
    ImagingParameters,
    Rejection,
    prepare_lesion,
    scrub_metadata,
    sniff,
)

ENTRIES = [sniff, prepare_lesion, scrub_metadata]


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and brings hardly any pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "HEIF", "AVIF"])
def test_sniff_names_format_and_size(kind, skin, encode):
    assert sniff(encode(skin, kind)) == ImageHeader(kind.lower(), 400, 300)


def test_sniff_does_not_need_the_pixels(skin, encode):
    whole = encode(skin, "JPEG")
    assert sniff(whole[: len(whole) // 2]) == ImageHeader("jpeg", 400, 300)


def test_a_phone_photo_with_a_second_take_inside_is_a_jpeg(skin, encode, make_skin):
    second = Image.fromarray(make_skin(seed=5))
    file = encode(skin, "MPO", save_all=True, append_images=[second])
    assert sniff(file) == ImageHeader("jpeg", 400, 300)
    assert not isinstance(prepare_lesion(file), Rejection)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"hello, I am not an image", "not_an_image"),
        (b"\0" * 4096, "not_an_image"),
        (b"GIF89a" + b"\0" * 50, "unsupported_format"),
        (b"%PDF-1.7\n%...", "unsupported_format"),
        (b"8BPS\0\1" + b"\0" * 50, "unsupported_format"),
        (b'\n<svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported_format"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "unsupported_format"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "unsupported_format"),
        (b"\xff\xd8\xff\xe0", "truncated"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"BM" + b"\0" * 60, "truncated"),
        (b"II*\0\x08\0\0\0", "truncated"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "truncated"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "truncated"),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1miafavif", "truncated"),
    ],
)
def test_what_is_no_readable_image_is_refused_for_good(entry, data, code):
    refusal = entry(data)
    assert isinstance(refusal, Rejection)
    assert refusal.code == code
    assert not refusal.soft


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_real_gif_is_refused_even_when_still(entry, skin, encode):
    assert entry(encode(skin, "GIF")).code == "unsupported_format"


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_moving_images_are_refused(entry, kind, skin, make_skin, encode):
    moving = encode(skin, kind, save_all=True, append_images=[Image.fromarray(make_skin(seed=9))])
    assert entry(moving).code == "animated"


def test_of_a_tiff_with_pages_the_first_counts(skin, make_skin, encode):
    pages = encode(skin, "TIFF", save_all=True, append_images=[Image.fromarray(make_skin(seed=9))])
    np.testing.assert_array_equal(prepare_lesion(pages).tensor, prepare_lesion(encode(skin, "TIFF")).tensor)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    "size", [(50_000, 50_000), (12_000, 12_000), (7_800, 7_800), (60_000, 100), (2**31 - 1, 2**31 - 1)]
)
def test_bombs_are_refused_by_their_header(entry, size):
    assert entry(png_header(*size)).code == "too_many_pixels"


def test_a_fifty_megapixel_phone_passes_the_header_check():
    assert sniff(png_header(8192, 6144)) == ImageHeader("png", 8192, 6144)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(("size", "refused"), [((63, 500), True), ((500, 63), True), ((64, 64), False)])
def test_less_than_64_pixels_are_too_few(entry, size, refused, make_skin, encode):
    outcome = entry(encode(make_skin(*size), "PNG"))
    assert (isinstance(outcome, Rejection) and outcome.code == "too_small") == refused


def test_the_limits_are_parameters(skin, encode):
    file = encode(skin, "PNG")
    assert sniff(file, ImagingParameters(max_pixels=119_999)).code == "too_many_pixels"
    assert sniff(file, ImagingParameters(max_side=399)).code == "too_many_pixels"
    assert sniff(file, ImagingParameters(min_side=301)).code == "too_small"


@given(
    data=st.binary(max_size=300), start=st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b""])
)
def test_whatever_the_bytes_the_answer_is_an_outcome(data, start):
    for entry in ENTRIES:
        assert isinstance(entry(start + data), (Rejection, ImageHeader))
