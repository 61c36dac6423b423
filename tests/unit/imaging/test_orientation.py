"""A photograph is judged as the photographer held it."""

import struct

import numpy as np
import pytest
from PIL import ExifTags, Image

from services.preprocessor.imaging.decode import decode

#: How a camera stores what it sees upright, for each value of the tag (EXIF 2.32, tag 0x0112).
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: np.rot90,
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


def tag(orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_the_tag_is_honoured(kind, orientation, make_skin, encode):
    upright = make_skin(160, 100, at=(0.8, 0.3))
    stored = np.ascontiguousarray(STORED[orientation](upright))
    options = {"lossless": True} if kind == "WEBP" else {}
    photograph = decode(encode(stored, kind, exif=tag(orientation), **options))
    np.testing.assert_array_equal(photograph.rgb, upright)
    assert photograph.source_size == (160, 100)


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", STORED)
def test_the_tag_is_honoured_in_lossy_files(kind, orientation, make_skin, encode):
    upright = make_skin(160, 100, at=(0.8, 0.3))
    stored = np.ascontiguousarray(STORED[orientation](upright))
    photograph = decode(encode(stored, kind, exif=tag(orientation).tobytes(), quality=95))
    assert photograph.rgb.shape == upright.shape
    assert np.abs(photograph.rgb.astype(int) - upright).mean() < 3
    assert photograph.source_size == (160, 100)


def test_a_large_jpeg_is_turned_after_being_decoded_small(make_skin, encode):
    upright = make_skin(1500, 2000, at=(0.5, 0.1))
    photograph = decode(encode(np.ascontiguousarray(np.rot90(upright)), exif=tag(6)))
    assert photograph.source_size == (1500, 2000)
    height, width = photograph.rgb.shape[:2]
    assert height > width
    assert photograph.rgb[: height // 2].mean() < photograph.rgb[height // 2 :].mean()


@pytest.mark.parametrize("orientation", [0, 9, 77, 65535])
def test_values_that_mean_nothing_are_ignored(orientation, make_skin, encode):
    pixels = make_skin(160, 100)
    np.testing.assert_array_equal(decode(encode(pixels, "PNG", exif=tag(orientation))).rgb, pixels)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"garbage",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        # One entry: orientation as text, as a pointer past the end, with an unknown type.
        b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHI4s", 0x0112, 2, 4, b"up!\0") + b"\0" * 4,
        b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x0112, 3, 900, 0xFFFFFF) + b"\0" * 4,
        b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x0112, 99, 1, 6) + b"\0" * 4,
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says in words what it found there
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_malformed_exif_does_not_cost_the_photo(kind, block, make_skin, encode):
    pixels = make_skin(160, 100)
    file = encode(pixels, kind, exif=b"Exif\0\0" + block)
    assert decode(file).rgb.shape == pixels.shape
