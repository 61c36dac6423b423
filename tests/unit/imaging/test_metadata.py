"""A clean copy holds the photograph and nothing else."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, TiffImagePlugin

from services.preprocessor.imaging import Rejection, scrub_metadata, sniff

SECRET = "Erika Mustermann"


def telling_exif():
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = SECRET
    exif[ExifTags.Base.Artist] = SECRET
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 12.0)
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = SECRET
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = SECRET.encode()
    return exif


XMP = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><creator>{SECRET}</creator></x:xmpmeta>'.encode()
IPTC = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x15\x1c\x02\x50\0\x10" + SECRET.encode() + b"\0"


def jpeg_with_everything(pixels, encode):
    file = encode(
        pixels,
        exif=telling_exif(),
        xmp=XMP,
        comment=SECRET,
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    )
    iptc = b"\xff\xed" + (len(IPTC) + 2).to_bytes(2, "big") + IPTC
    return file[:2] + iptc + file[2:] + b"after the end: " + SECRET.encode()


def png_with_everything(pixels, encode):
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", SECRET)
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return encode(pixels, "PNG", exif=telling_exif(), pnginfo=text, dpi=(300, 300))


def tiff_with_everything(pixels, encode):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[ExifTags.Base.Artist] = SECRET
    tags[ExifTags.Base.XMLPacket] = XMP
    return encode(pixels, "TIFF", tiffinfo=tags)


MAKERS = {
    "JPEG": jpeg_with_everything,
    "PNG": png_with_everything,
    "TIFF": tiff_with_everything,
    "WEBP": lambda pixels, encode: encode(pixels, "WEBP", exif=telling_exif(), xmp=XMP),
    "AVIF": lambda pixels, encode: encode(pixels, "AVIF", exif=telling_exif(), xmp=XMP),
    "HEIF": lambda pixels, encode: encode(pixels, "HEIF", exif=telling_exif().tobytes(), xmp=XMP),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_nothing_that_tells_of_the_person_survives(kind, skin, encode):
    file = MAKERS[kind](skin, encode)
    assert SECRET.encode() in file
    clean = scrub_metadata(file)
    assert isinstance(clean, bytes)
    for trace in (SECRET.encode(), b"Exif", b"xmp", b"8BIM", b"GPS", b"ICC_PROFILE", b"iCCP", b"tEXt", b"eXIf"):
        assert trace not in clean
    with Image.open(io.BytesIO(clean)) as image:
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_the_orientation_is_applied_before_it_is_dropped(make_skin, encode):
    upright = make_skin(200, 300, at=(0.3, 0.2))
    file = png_with_everything(np.ascontiguousarray(np.rot90(upright)), encode)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(scrub_metadata(file)))), upright)


def test_small_lossless_files_stay_lossless(skin, encode):
    for kind, options in (("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        clean = scrub_metadata(encode(skin, kind, **options))
        assert sniff(clean).format == "png"
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(clean))), skin)


def test_large_lossless_files_become_good_jpegs(make_skin, encode):
    pixels = make_skin(2000, 1200)
    clean = scrub_metadata(encode(pixels, "PNG"))
    assert sniff(clean).format == "jpeg"
    assert np.abs(np.asarray(Image.open(io.BytesIO(clean))).astype(int) - pixels).mean() < 1.5


def test_lossy_files_keep_their_size_and_look(skin, encode):
    file = encode(skin, quality=90)
    clean = scrub_metadata(file)
    before = np.asarray(Image.open(io.BytesIO(file))).astype(int)
    assert np.abs(np.asarray(Image.open(io.BytesIO(clean))) - before).mean() < 1


def test_the_long_side_is_bounded(make_skin, encode):
    header = sniff(scrub_metadata(encode(make_skin(5000, 1000))))
    assert (header.width, header.height) == (4096, 819)


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0"])
def test_what_cannot_be_decoded_is_refused(data):
    assert isinstance(scrub_metadata(data), Rejection)
