"""Every kind of file that cameras, phones and programs make: upright, answered for, and with nothing told about it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import cv2
import numpy as np
import pillow_heif
import pytest
import requests
from PIL import ExifTags, Image, ImageOps

from tests.conftest import lesion_photograph
from tests.e2e.product import Product

pillow_heif.register_heif_opener()

SECRET = "Erika-Mustermann-52.52N-13.40E"
#: The names under which browsers and programs send them, whatever is inside.
OCTETS = "application/octet-stream"


def upright() -> Image.Image:
    """A made lesion whose top left corner is black and whose others are not."""
    photo = Image.open(io.BytesIO(lesion_photograph(41, 480, 400))).convert("RGB")
    photo.paste((0, 0, 0), (0, 0, 60, 60))
    return photo


def telling(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = SECRET
    exif[ExifTags.Base.DateTime] = "2026:05:04 12:30:00"
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 12.0)
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = SECRET
    return exif


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def sixteen_bits() -> bytes:
    deep = np.asarray(upright())[..., ::-1].astype(np.uint16) * 257
    return bytes(cv2.imencode(".png", deep)[1])


def turned(orientation: int) -> bytes:
    """What a phone held on its side writes: turned pixels, and the note how to turn them back."""
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    return encoded(upright().transpose(back), "JPEG", quality=95, exif=telling(orientation))


KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "HEIC": (lambda: encoded(upright(), "HEIF", quality=90, exif=telling().tobytes()), "image/heic"),
    "HEIC without its type": (lambda: encoded(upright(), "HEIF", quality=90, exif=telling().tobytes()), OCTETS),
    "WebP": (lambda: encoded(upright(), "WEBP", quality=95, exif=telling()), "image/webp"),
    "16-bit PNG": (sixteen_bits, "image/png"),
    "CMYK JPEG": (lambda: encoded(upright().convert("CMYK"), "JPEG", quality=95, exif=telling()), "image/jpeg"),
    "grey JPEG": (lambda: encoded(upright().convert("L"), "JPEG", quality=95, comment=SECRET), "image/jpeg"),
    "RGBA PNG": (lambda: encoded(upright().convert("RGBA"), "PNG", exif=telling()), "image/png"),
    "JPEG turned by 180°": (lambda: turned(3), "image/jpeg"),
    "JPEG turned to the left": (lambda: turned(6), "image/jpeg"),
    "JPEG turned to the right": (lambda: turned(8), OCTETS),
    "JPEG with its place": (lambda: encoded(upright(), "JPEG", exif=telling(), comment=SECRET), "image/jpeg"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_upright_answered_for_and_silent(product: Product, kind: str) -> None:
    make, media_type = KINDS[kind]
    data = make()

    sent = requests.post(
        f"{product.base_url}/v1/analyses", files={"image": (f"{SECRET}.jpg", data, media_type)},
        data={"force": "true"}, headers={"Prefer": "wait=25"}, timeout=60,
    )  # fmt: skip
    analysis = product.ended(sent.json()["id"])

    assert analysis["state"] == "done", analysis
    assert analysis["result"]["source_size"] == [480, 400]

    links = {name: path for name, path in analysis["links"].items() if name != "feedback"}
    answers = {name: requests.get(product.base_url + path, timeout=60) for name, path in links.items()}
    assert {answer.status_code for answer in answers.values()} == {200}
    returned = answers["image"].content
    photo = ImageOps.exif_transpose(Image.open(io.BytesIO(returned)))
    assert photo.size == (480, 400)
    grey = np.asarray(photo.convert("L").resize((48, 40), Image.Resampling.BOX))
    corners = {"here": grey[:4, :4], "right": grey[:4, -4:], "below": grey[-4:, :4], "across": grey[-4:, -4:]}
    assert {name: bool(corner.mean() < 40) for name, corner in corners.items()} == {
        "here": True, "right": False, "below": False, "across": False,
    }  # fmt: skip

    assert set(Image.open(io.BytesIO(returned)).getexif()) <= {ExifTags.Base.Orientation}
    stored = stored_bytes(product, analysis["id"])
    assert stored
    for content in (*stored, *(answer.content for answer in answers.values()), json.dumps(analysis).encode()):
        assert SECRET.encode() not in content
        assert b"2026:05:04" not in content


def stored_bytes(product: Product, analysis_id: str) -> list[bytes]:
    """Every file the product keeps about an analysis."""
    blobs = (path for path in (product.folder / "blobs").rglob("*") if path.is_file())
    return [path.read_bytes() for path in blobs if analysis_id.replace("-", "") in str(path).replace("-", "")]
