"""Every accepted kind of file becomes the same upright RGB pixels."""

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from services.preprocessor.imaging import PreparedLesion, Rejection, prepare_lesion
from services.preprocessor.imaging.decode import Photograph, decode


def difference(one, other):
    return np.abs(one.astype(int) - other.astype(int)).mean()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_lossless_files_decode_to_the_very_pixels(kind, options, skin, encode):
    photograph = decode(encode(skin, kind, **options))
    np.testing.assert_array_equal(photograph.rgb, skin)
    assert photograph.lossless
    assert photograph.source_size == (400, 300)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {"quality": 95}),
        ("HEIF", {"quality": 95}),
        ("AVIF", {"quality": 95}),
        ("TIFF", {"compression": "jpeg", "quality": 95}),
    ],
)
def test_lossy_files_decode_to_nearly_the_pixels(kind, options, skin, encode):
    photograph = decode(encode(skin, kind, **options))
    assert photograph.rgb.shape == skin.shape
    assert difference(photograph.rgb, skin) < 2
    assert not photograph.lossless


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_grey_files_are_grey_in_three_channels(kind, skin, encode):
    grey = Image.fromarray(skin).convert("L")
    rgb = decode(encode(grey, kind)).rgb
    assert rgb.shape == skin.shape
    assert difference(rgb, np.asarray(grey)[..., None]) < 1.5


def test_cmyk_jpeg_keeps_its_colours(skin, encode):
    assert difference(decode(encode(Image.fromarray(skin).convert("CMYK"))).rgb, skin) < 3


def test_palette_png_keeps_its_colours(skin, encode):
    palette = Image.fromarray(skin).convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_array_equal(decode(encode(palette, "PNG")).rgb, np.asarray(palette.convert("RGB")))


def test_black_and_white_png_is_read(encode):
    halves = np.zeros((100, 100), np.uint8)
    halves[:, 50:] = 255
    rgb = decode(encode(Image.fromarray(halves).convert("1"), "PNG")).rgb
    np.testing.assert_array_equal(rgb, np.repeat(halves[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind, encode):
    ramp = np.linspace(0, 65535, 200 * 100).reshape(100, 200).astype(np.uint16)
    rgb = decode(encode(ramp, kind)).rgb
    np.testing.assert_allclose(rgb[..., 0], ramp / 257, atol=0.51)


def test_sixteen_bit_colour_is_read(skin, tmp_path):
    # Pillow cannot write it, OpenCV can.
    import cv2

    path = tmp_path / "deep.png"
    assert cv2.imwrite(str(path), (skin[..., ::-1].astype(np.uint16) * 257))
    assert path.read_bytes()[24] == 16
    np.testing.assert_allclose(decode(path.read_bytes()).rgb, skin, atol=1)


def test_floating_point_images_are_refused(encode):
    assert decode(encode(np.ones((100, 100), np.float32), "TIFF")).code == "unsupported_format"


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparent_parts_take_the_mean_colour_of_the_rest(kind, skin, encode):
    opacity = np.full((300, 400, 1), 255, np.uint8)
    opacity[:, :100] = 0
    options = {"lossless": True} if kind == "WEBP" else {}
    rgb = decode(encode(np.concatenate([skin, opacity], axis=2), kind, **options)).rgb
    np.testing.assert_array_equal(rgb[:, 100:], skin[:, 100:])
    mean = skin[:, 100:].reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(rgb[:, :100].reshape(-1, 3), np.tile(mean, (30_000, 1)), atol=0.6)


def test_a_transparent_colour_is_honoured(encode):
    levels = np.full((100, 100), 120, np.uint8)
    levels[:, :30] = 7
    rgb = decode(encode(Image.fromarray(levels), "PNG", transparency=7)).rgb
    assert (rgb == 120).all()


def test_a_wholly_transparent_image_is_read_as_blank(encode):
    outcome = prepare_lesion(encode(np.zeros((100, 100, 4), np.uint8), "PNG"))
    assert isinstance(outcome, Rejection)
    assert outcome.code == "blank"


def test_large_jpegs_are_decoded_small_and_measured_whole(make_skin, encode):
    photograph = decode(encode(make_skin(4000, 3000)))
    assert photograph.source_size == (4000, 3000)
    assert 448 <= min(photograph.rgb.shape[:2]) < 900


def test_decoding_small_changes_next_to_nothing(make_skin, encode):
    pixels = make_skin(2000, 1500)
    small = prepare_lesion(encode(pixels)).tensor
    whole = prepare_lesion(encode(pixels, "PNG")).tensor
    assert difference(small, whole) < 0.6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_files_are_refused(kind, share, skin, encode):
    file = encode(skin, kind)
    outcome = prepare_lesion(file[: int(len(file) * share)])
    assert isinstance(outcome, Rejection)
    assert outcome.code == "truncated"
    assert not outcome.soft


def test_wide_gamut_photos_become_srgb(make_skin, encode):
    # A profile with swapped primaries: what it calls red is blue.
    patch = make_skin(lesion=(60, 90, 200))
    swapped = ImageCms.ImageCmsProfile(io.BytesIO(swapped_profile()))
    plain = prepare_lesion(encode(patch, "PNG")).tensor
    tagged = prepare_lesion(encode(patch[..., ::-1], "PNG", icc_profile=swapped.tobytes())).tensor
    assert difference(plain, prepare_lesion(encode(patch[..., ::-1], "PNG")).tensor) > 5
    assert difference(plain, tagged) < 1.5


def swapped_profile() -> bytes:
    """The sRGB profile with the colorants of red and blue exchanged, and another name."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    name = "sRGB".encode("utf-16-be")
    while name in profile:
        at = profile.index(name)
        profile[at : at + len(name)] = "swap".encode("utf-16-be")
    while b"sRGB" in profile:
        at = profile.index(b"sRGB")
        profile[at : at + 4] = b"swap"
    return bytes(profile)


@pytest.mark.parametrize("profile", [b"", b"not a profile", b"\0" * 5000])
def test_an_unreadable_profile_does_not_cost_the_photo(profile, skin, encode):
    tagged = prepare_lesion(encode(skin, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(tagged.tensor, prepare_lesion(encode(skin, "PNG")).tensor)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(kind=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "TIFF", "HEIF", "AVIF"]), data=st.data())
def test_damaged_files_are_outcomes_never_errors(kind, data, make_skin, encode):
    file = bytearray(encode(make_skin(96, 80), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(decode(bytes(file)), (Photograph, Rejection))
    assert isinstance(prepare_lesion(bytes(file), force=True), (PreparedLesion, Rejection))
