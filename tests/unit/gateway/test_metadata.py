"""Nothing but the picture survives, and the picture survives bit for bit."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from services.gateway.metadata import without_metadata
from services.gateway.metadata.colour_profile import anonymous_profile
from services.preprocessor.imaging import ImageHeader, PreparedLesion, Rejection, prepare_lesion, sniff
from services.preprocessor.imaging.decode import decode
from services.preprocessor.imaging.srgb import to_srgb

SECRETS = (b"SECRET", b"GPS", b"ns.adobe.com", b"xmpmeta", b"Exif\0\0MM")
#: What Pillow tells about any file of a format, whether or not it says anything; dpi are 72 where none are stated.
HARMLESS = {
    "exif", "dpi", "jfif", "jfif_version", "jfif_density", "jfif_unit",
    "loop", "background", "timestamp", "duration",
}  # fmt: skip
KINDS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "HEIF", "AVIF")


def pixels(size=(96, 72)):
    return np.random.default_rng(7).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)


def full_exif(orientation):
    exif = Image.Exif()
    exif[0x010E] = "SECRET description"
    exif[0x0110] = "SECRET camera"
    exif[0x0112] = orientation
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2] = "N", (52.0, 31.0, 12.0)
    return exif


def saved(kind, orientation=1, mode="RGB", **options):
    image = Image.fromarray(pixels()).convert(mode)
    if kind in ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"):
        options.setdefault("exif", full_exif(orientation))
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def header_of(data):
    header = sniff(data)
    assert isinstance(header, ImageHeader)
    return header


def clean(data):
    stripped = without_metadata(data, header_of(data))
    assert isinstance(stripped, bytes)
    return stripped


def assert_same_picture(data, stripped):
    before, after = decode(data), decode(stripped)
    np.testing.assert_array_equal(before.rgb, after.rgb)
    assert before.source_size == after.source_size
    np.testing.assert_array_equal(to_srgb(before.rgb, before.profile), to_srgb(after.rgb, after.profile))


def assert_no_secrets(stripped):
    for secret in SECRETS:
        assert secret not in stripped


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_keeps_pixels_and_orientation_and_loses_the_rest(kind, orientation):
    data = saved(kind, orientation)
    stripped = clean(data)
    assert_same_picture(data, stripped)
    assert_no_secrets(stripped)
    with Image.open(io.BytesIO(stripped)) as image:
        assert set(image.getexif()) <= {0x0112}
        assert set(image.info) <= HARMLESS


@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True},
        {"subsampling": "4:4:4"},
        {"restart_marker_blocks": 2},
        {"mode": "L"},
        {"mode": "CMYK"},
    ],
    ids=str,
)
def test_every_coding_of_jpeg_keeps_its_pixels(options):
    data = saved("JPEG", 6, **options)
    stripped = clean(data)
    assert_same_picture(data, stripped)
    assert_no_secrets(stripped)


def test_jpeg_loses_comments_xmp_thumbnails_and_what_follows_its_end():
    data = saved("JPEG", 3, comment=b"SECRET comment", xmp=b"<x:xmpmeta>SECRET</x:xmpmeta>")
    thumbnail = struct.pack(">BBH", 0xFF, 0xE0, 16) + b"JFXX\0" + b"SECRET---"
    data = data[:2] + thumbnail + data[2:] + saved("JPEG") + b"SECRET motion clip"
    stripped = clean(data)
    assert_same_picture(data, stripped)
    assert_no_secrets(stripped)
    assert b"JFXX" not in stripped
    assert stripped.endswith(b"\xff\xd9")
    assert stripped.count(b"\xff\xd8\xff") == 1


def test_bytes_between_jpeg_segments_are_lost():
    data = saved("JPEG")
    data = data[:2] + b"\xff\xe5\x00\x09" + b"SECRET!" + b"\xff\xff\xff" + data[3:]
    stripped = clean(data)
    assert_no_secrets(stripped)
    assert_same_picture(data, stripped)


def test_orientation_that_only_xmp_tells_is_kept():
    file = io.BytesIO()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.fromarray(pixels()).save(file, "JPEG", xmp=xmp)
    stripped = clean(file.getvalue())
    assert_same_picture(file.getvalue(), stripped)
    assert b"xmpmeta" not in stripped


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_every_mode_of_png_keeps_its_pixels(mode):
    if mode == "I;16":
        image = Image.fromarray(pixels()[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(pixels()).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(pixels()[..., 1]))
    file = io.BytesIO()
    image.save(file, "PNG", exif=full_exif(8))
    stripped = clean(file.getvalue())
    assert_same_picture(file.getvalue(), stripped)
    assert_no_secrets(stripped)


def test_png_loses_texts_times_and_what_follows_its_end():
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", "SECRET")
    texts.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta>SECRET</x:xmpmeta>", zip=True)
    data = saved("PNG", 5, pnginfo=texts, dpi=(300, 300)) + b"SECRET polyglot"
    stripped = clean(data)
    assert_same_picture(data, stripped)
    assert_no_secrets(stripped)
    assert stripped.endswith(b"IEND\xaeB`\x82")
    names = []
    position = 8
    while position < len(stripped):
        (length,) = struct.unpack_from(">I", stripped, position)
        names.append(stripped[position + 4 : position + 8])
        assert struct.unpack_from(">I", stripped, position + 8 + length)[0] == zlib.crc32(
            stripped[position + 4 : position + 8 + length]
        )
        position += 12 + length
    assert set(names) == {b"IHDR", b"eXIf", b"IDAT", b"IEND"}


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": False}, {"mode": "RGBA"}], ids=str)
def test_every_coding_of_webp_keeps_its_pixels(options):
    data = saved("WEBP", 7, xmp=b"<x:xmpmeta>SECRET</x:xmpmeta>", **options) + b"SECRET tail"
    stripped = clean(data)
    assert_same_picture(data, stripped)
    assert_no_secrets(stripped)
    assert len(stripped) == 8 + struct.unpack_from("<I", stripped, 4)[0]


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_what_hides_in_bmp_and_tiff_is_lost(kind):
    data = saved(kind) + b"SECRET tail"
    stripped = clean(data)
    assert stripped.startswith(b"\x89PNG")
    assert_same_picture(data, stripped)
    assert_no_secrets(stripped)


# --- colour profiles -------------------------------------------------------------------------------------------


def wide_gamut_profile():
    """An RGB profile with primaries of its own: sRGB's, with red and green changed places."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", profile, 128)
    for index in range(count):
        entry = 132 + 12 * index
        name = bytes(profile[entry : entry + 4])
        if name in (b"rXYZ", b"gXYZ"):
            profile[entry : entry + 4] = b"gXYZ" if name == b"rXYZ" else b"rXYZ"
    built_in = "sRGB built-in".encode("utf-16-be")
    assert built_in in profile
    named = bytes(profile).replace(built_in, "SECRET dev.  ".encode("utf-16-be"))
    return named[:48] + b"ACMEX123" + named[56:]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_a_wide_gamut_photograph_keeps_its_colours_but_not_its_device(kind):
    data = saved(kind, 6, icc_profile=wide_gamut_profile())
    before = decode(data)
    assert not np.array_equal(to_srgb(before.rgb, before.profile), before.rgb)
    stripped = clean(data)
    assert_same_picture(data, stripped)
    after = decode(stripped)
    for secret in (b"ACMEX123", "SECRET".encode("utf-16-be"), b"cprt", b"desc"):
        assert secret not in (after.profile or b"")


def test_a_profile_that_imaging_ignores_is_not_kept():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert anonymous_profile(srgb) is None
    assert anonymous_profile(b"damaged") is None
    assert anonymous_profile(None) is None


# --- what the networks see -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_networks_see_the_same_tensor(kind):
    spot = np.full((300, 400, 3), (224, 182, 160), dtype=np.uint8)
    rows, columns = np.ogrid[:300, :400]
    spot[(rows - 150) ** 2 + (columns - 190) ** 2 < 60**2] = (90, 60, 50)
    noise = np.random.default_rng(3).integers(-6, 6, spot.shape)
    file = io.BytesIO()
    Image.fromarray((spot + noise).clip(0, 255).astype(np.uint8)).save(file, kind)
    before = prepare_lesion(file.getvalue(), force=True)
    after = prepare_lesion(clean(file.getvalue()), force=True)
    assert isinstance(before, PreparedLesion)
    assert isinstance(after, PreparedLesion)
    np.testing.assert_array_equal(before.tensor, after.tensor)


# --- damage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_refused_or_stays_cut(kind):
    data = saved(kind)
    data = data[: len(data) * 2 // 3]
    header = sniff(data)
    if isinstance(header, Rejection):
        return
    stripped = without_metadata(data, header)
    assert isinstance(stripped, Rejection) or isinstance(decode(stripped), Rejection)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.data())
def test_a_damaged_file_gives_what_it_gave_before_or_a_refusal(kind, data):
    file = bytearray(saved(kind, 6))
    for _ in range(data.draw(st.integers(1, 8))):
        file[data.draw(st.integers(12, len(file) - 1))] = data.draw(st.integers(0, 255))
    header = sniff(bytes(file))
    if not isinstance(header, ImageHeader):
        return
    stripped = without_metadata(bytes(file), header)
    if isinstance(stripped, bytes) and not isinstance(decode(bytes(file)), Rejection):
        assert isinstance(decode(stripped), Rejection) or _same(bytes(file), stripped)


def _same(data, stripped):
    return np.array_equal(decode(data).rgb, decode(stripped).rgb)
