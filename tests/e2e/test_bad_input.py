"""What is no photograph is answered with a reason, and the service goes on."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
import requests
from PIL import Image

from tests.conftest import lesion_photograph
from tests.e2e.product import Product


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 50,000 × 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 150_001))
        + chunk(b"IEND", b"")
    )


def animated_gif() -> bytes:
    file = io.BytesIO()
    frames = [Image.new("P", (200, 200), colour) for colour in (0, 90, 180)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


REFUSED = {
    "no image": (lambda: b"this is not an image", {400, 415, 422}),
    "no bytes": (lambda: b"", {400}),
    "the beginning of a GIF": (lambda: b"GIF89a not an image", {400, 415, 422}),
    "twenty megabytes": (lambda: b"x" * 20_000_000, {413}),
    "fifty thousand pixels a side": (bomb, {413, 415, 422}),
    "an animation": (animated_gif, {415, 422}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_with_a_problem_that_says_what_to_do(product: Product, what: str) -> None:
    make, statuses = REFUSED[what]

    response = product.upload(make())

    assert response.status_code in statuses, response.text
    assert_problem(response)
    assert product.is_ready()


def test_a_truncated_photograph_is_refused_or_rejected_with_a_reason(product: Product) -> None:
    whole = lesion_photograph(3)

    response = product.upload(whole[: len(whole) // 3])

    if response.status_code >= 400:
        assert response.status_code in {415, 422}
        assert_problem(response)
    else:
        answer = product.ended(response.json()["id"])
        assert answer["state"] == "rejected"
        assert answer["reason"]["code"]
        assert answer["reason"]["sentence"]


def test_a_wrong_extension_does_not_matter(product: Product) -> None:
    png = lesion_photograph(5, form="PNG")

    response = requests.post(
        f"{product.base_url}/v1/analyses",
        files={"image": ("mole.txt", png, "text/plain")}, data={"force": "true"}, timeout=30,
    )  # fmt: skip

    assert response.status_code == 202, response.text
    assert product.ended(response.json()["id"])["state"] == "done"


def test_text_instead_of_a_file_is_refused(product: Product) -> None:
    response = requests.post(f"{product.base_url}/v1/analyses", data={"image": "photo.jpg"}, timeout=30)

    assert 400 <= response.status_code < 500
    assert_problem(response)


NEVER_GIVEN = "7d4e9a52-3c1f-4b08-9f6e-2a5d8c7b1e40"


@pytest.mark.parametrize("analysis_id", [NEVER_GIVEN, "nonsense", "1", "%00", "..%2f..%2fetc%2fpasswd"])
def test_an_id_that_nobody_was_given_finds_nothing(product: Product, analysis_id: str) -> None:
    response = requests.get(f"{product.base_url}/v1/analyses/{analysis_id}", timeout=30)

    assert response.status_code in {400, 404}
    assert_problem(response)


def assert_problem(response: requests.Response) -> None:
    assert response.headers["Content-Type"].startswith("application/problem+json"), response.headers
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in response.text
