"""What is deleted is nowhere in the data folder any more: not in blobs, tables, their log, caches or batches."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import requests

from tests.conftest import lesion_photograph
from tests.e2e.product import DONE_WITHIN_S, Product, eventually

#: Bytes of a sample: long enough to be nobody else's, short enough to lie within one page of the database.
SAMPLE_BYTES = 48

#: Seeds of photographs that no other test sends to the shared product.
ALONE, IN_A_BATCH, NOT_STORED = 7_001, (7_002, 7_003), 7_004


def samples(photograph: bytes) -> list[bytes]:
    """Pieces of the coded pixels, which the gateway keeps as they are."""
    return [photograph[at : at + SAMPLE_BYTES] for at in range(3_000, len(photograph) - 2_000, 4_000)]


def pixel_samples(blob: Path) -> list[bytes]:
    """Pieces of the prepared pixels."""
    pixels = np.load(blob, allow_pickle=False)
    return [pixels[row, 80:96].tobytes() for row in range(20, 220, 40)]


def found(folder: Path, wanted: list[bytes]) -> set[str]:
    """Files below `folder` that hold any of the pieces."""
    holding = set()
    for path in folder.rglob("*"):
        try:
            content = path.read_bytes() if path.is_file() else b""
        except OSError:
            continue  # it has just gone, or is a socket
        if any(piece in content for piece in wanted):
            holding.add(path.relative_to(folder).as_posix())
    return holding


def test_a_deleted_photograph_is_nowhere_in_the_data_folder(product: Product) -> None:
    photograph = lesion_photograph(ALONE)
    analysis_id = product.accepted(photograph, force="true")
    product.ended(analysis_id)
    wanted = samples(photograph) + pixel_samples(product.folder / "blobs" / "tensors" / analysis_id)
    held = {f"blobs/uploads/{analysis_id}", f"blobs/tensors/{analysis_id}"}
    assert found(product.folder, wanted) == held, "before, it is in its two blobs and nowhere else"

    assert requests.delete(f"{product.base_url}/v1/analyses/{analysis_id}", timeout=60).status_code == 204

    assert found(product.folder, wanted) == set()
    assert requests.get(f"{product.base_url}/v1/analyses/{analysis_id}", timeout=60).status_code == 410


def test_of_a_batch_nothing_is_left_either(product: Product) -> None:
    photographs = [lesion_photograph(seed) for seed in IN_A_BATCH]
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for number, photograph in enumerate(photographs):
            packed.writestr(f"Jane Doe {number}.jpg", photograph)
    sent = requests.post(
        f"{product.base_url}/v1/batches", files={"images": ("b.zip", archive.getvalue())}, data={"force": "true"},
        timeout=60,
    ).json()  # fmt: skip
    wanted = [piece for photograph in photographs for piece in samples(photograph)] + [b"Jane Doe"]
    for item in sent["items"]:
        product.ended(item["id"])
    assert len(found(product.folder, wanted)) == 2
    for item in sent["items"]:
        assert requests.delete(f"{product.base_url}{item['links']['self']}", timeout=60).status_code == 204
    assert found(product.folder, wanted) == set()


def test_a_photograph_that_must_not_be_stored_goes_by_itself(product: Product) -> None:
    photograph = lesion_photograph(NOT_STORED)
    analysis_id = product.accepted(photograph, force="true", store="false")
    product.ended(analysis_id)
    wanted = samples(photograph)
    eventually(lambda: not found(product.folder, wanted), DONE_WITHIN_S)
    assert not (product.folder / "blobs" / "tensors" / analysis_id).exists()
    assert product.analysis(analysis_id)["state"] == "done"
