"""Nothing but the picture survives, and the picture survives bit for bit."""

from __future__ import annotations

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from services.gateway.metadata import is_plain_jpeg, without_metadata
from services.gateway.metadata.colour_profile import anonymous_profile, says_srgb
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


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def named(value, *, before=b""):
    """A profile with no tag but its name."""
    tags = [(b"desc", value), *([(b"dscm", before)] if before else [])]
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags:
        table += struct.pack(">4sII", name, start + len(data), len(content))
        data += content
    header = SRGB[:16] + b"RGB " + SRGB[20:128]
    return header + struct.pack(">I", len(tags)) + table + data


def described(text):
    return b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text.encode() + bytes(80)


def in_languages(*texts):
    start = 16 + 12 * len(texts)
    records, strings = b"", b""
    for number, text in enumerate(texts):
        coded = text.encode("utf-16-be")
        records += struct.pack(">2s2sII", b"en", b"A%c" % (65 + number), len(coded), start + len(strings))
        strings += coded
    return b"mluc" + bytes(4) + struct.pack(">II", len(texts), 12) + records + strings


@pytest.mark.parametrize(
    "profile",
    [
        SRGB,
        named(described("sRGB IEC61966-2.1")),
        named(in_languages("sRGB")),
        named(in_languages("sRGB", "Farbraum sRGB"), before=in_languages("sRGB-Profil")),
    ],
)
def test_what_calls_itself_srgb_is_known_without_a_library_and_is_so_to_the_library(profile):
    assert says_srgb(profile)
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    assert opened.xcolor_space == "RGB "
    assert "sRGB" in opened.profile_description


@pytest.mark.parametrize(
    "profile",
    [
        wide_gamut_profile(),
        named(described("Display P3")),
        named(in_languages("sRGB", "Display P3")),
        named(described("sRGB"), before=in_languages("Display P3")),
        named(described("sRGB")).replace(b"RGB ", b"GRAY", 1),
        named(b"mluc" + bytes(4) + struct.pack(">II", 1 << 30, 12) + bytes(40)),
        named(b"mluc" + bytes(4) + struct.pack(">II", 1, 1 << 30) + bytes(40)),
        named(b"text" + bytes(4) + b"sRGB"),
        named(b""),
        SRGB[:128],
        SRGB[:140],
        b"sRGB",
    ],
)
def test_what_does_not_say_plainly_that_it_is_srgb_is_for_the_library(profile):
    assert not says_srgb(profile)


def test_a_profile_that_imaging_ignores_is_not_kept():
    assert anonymous_profile(SRGB) is None
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


# --- what needs no cell ----------------------------------------------------------------------------------------


def test_a_photograph_as_most_programs_write_it_is_plain():
    for options in (
        {},
        {"progressive": True},
        {"exif": b""},
        {"comment": b"SECRET"},
        {"xmp": b"<x:xmpmeta/>"},
        {"icc_profile": SRGB},
    ):
        assert is_plain_jpeg(saved("JPEG", 6, **options)), options
        assert is_plain_jpeg(clean(saved("JPEG", 6, **options))), options


def segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def exif(tags, order="<", offset=8):
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", offset)
    return segment(0xE1, b"Exif\0\0" + head + struct.pack(f"{order}H", tags) + bytes(12 * tags + 4))


BARE = saved("JPEG", exif=b"")
NOT_PLAIN = {
    "a colour profile": saved("JPEG", icc_profile=wide_gamut_profile()),
    "two colour profiles": saved("JPEG", icc_profile=SRGB + bytes(65_519)),
    "further images": BARE[:2] + segment(0xE2, b"MPF\0") + BARE[2:],
    "a thousand segments": BARE[:2] + segment(0xEF, b"") * 1000 + BARE[2:],
    "bytes between segments": BARE[:2] + b"between" + BARE[2:],
    "fill bytes": BARE[:2] + b"\xff\xff" + BARE[2:],
    "no end": BARE[:-2],
    "cut in its headers": BARE[:40],
    "no beginning of EXIF": BARE[:2] + segment(0xE1, b"Exif\0\0") + BARE[2:],
    "EXIF of nothing known": BARE[:2] + segment(0xE1, b"Exif\0\0II+\0" + bytes(20)) + BARE[2:],
    "EXIF that points behind its end": BARE[:2] + exif(1, offset=9_999) + BARE[2:],
    "EXIF of thousands of tags": BARE[:2] + exif(5_000) + BARE[2:],
    "EXIF of thousands of tags, Motorola's order": BARE[:2] + exif(5_000, ">") + BARE[2:],
    "two EXIF blocks": BARE[:2] + exif(1) + exif(1) + BARE[2:],
    "PNG": saved("PNG"),
}


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_what_could_take_long_or_needs_a_library_in_c_is_not_plain(what):
    assert is_plain_jpeg(BARE)
    assert is_plain_jpeg(BARE[:2] + exif(12) + BARE[2:])
    assert not is_plain_jpeg(NOT_PLAIN[what])


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


def test_a_megabyte_of_fill_bytes_is_not_read_byte_by_byte():
    lines = 0

    def count(_frame, event, _argument):
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        assert not is_plain_jpeg(BARE[:2] + b"\xff" * 1_000_000 + BARE[2:])
    finally:
        sys.settrace(before)
    assert lines < 1_000
