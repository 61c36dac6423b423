"""Hostile files over HTTP: bombs, chimeras, malformed metadata, names that want to be paths or headers."""

from __future__ import annotations

import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing

import psutil
import pytest

from services.gateway.confined import clean_confined
from services.preprocessor.cell import Cell
from services.preprocessor.cell.cell import MEMORY_BYTES
from services.preprocessor.confined import prepare_confined
from services.preprocessor.imaging import PreparedLesion, Rejection
from tests import hostile
from tests.integration.gateway.conftest import photograph

BOMBS = hostile.bombs()
CHIMERAS = hostile.chimeras()


@pytest.fixture(scope="module")
def process_of_its_own():
    """Its children are cells and nothing else, so the largest of them is a cell."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def read_in_both_cells(what):
    """In the gateway's, and (as if it had passed) in the preprocessor's; with the bytes of the largest child."""
    outcomes = clean_confined(BOMBS[what]), prepare_confined(BOMBS[what], force=True)
    return *outcomes, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_is_refused_or_harmless_within_the_limits(what, process_of_its_own):
    cleaned, outcome, largest = process_of_its_own.submit(read_in_both_cells, what).result()

    assert isinstance(cleaned, (bytes, Rejection))
    assert isinstance(outcome, (PreparedLesion, Rejection))
    if isinstance(cleaned, bytes):
        assert len(cleaned) < 1_000_000
    assert largest < MEMORY_BYTES + (128 << 20), "limit and shared libraries"


def photographs_and_cells():
    """Runs in a process that has cleaned nothing before: how many children it has after a plain JPEG, and a PNG."""
    plain = clean_confined(photograph())
    before = len(psutil.Process().children())
    other = clean_confined(hostile.small("PNG"))
    return plain, before, other, len(psutil.Process().children())


def test_a_plain_jpeg_needs_no_cell_and_gives_what_a_cell_gives():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        plain, before, other, after = pool.submit(photographs_and_cells).result()

    assert (before, after) == (0, 1)
    assert isinstance(other, bytes)
    with closing(Cell("services.gateway.confined:inside")) as cell:
        assert cell.run(photograph(), {"do": "clean"}).body == plain


@pytest.mark.parametrize("what", CHIMERAS)
def test_of_a_chimera_nothing_but_the_picture_is_kept(what, upload, client, blobs_stored):
    data, taken = CHIMERAS[what]

    response = upload(data)

    assert (response.status_code == 202) == taken, response.text
    if not taken:
        assert response.status_code == 415
        assert blobs_stored() == []
        return
    stored = [path.read_bytes() for path in blobs_stored()]
    shown = client.get(f"/v1/analyses/{response.json['id']}/image")
    assert shown.content_type in {"image/jpeg", "image/png", "image/webp"}
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
    for payload in hostile.PAYLOADS:
        assert not any(payload in content for content in [*stored, shown.data])


# Pillow warns of it, and here warnings are errors.
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("what", hostile.malformed_exif())
def test_malformed_exif_costs_nobody_the_photograph(what, upload):
    assert upload(hostile.malformed_exif()[what]).status_code == 202


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd", "..\\..\\windows\\system32", "/etc/passwd", "a\0.jpg", "con.jpg", "x" * 5_000,
        'a"; filename="b.html', "a.jpg\r\nX-Injected: yes\r\n\r\n<script>", "<img src=x onerror=alert(1)>.jpg",
        "=cmd|'/C calc'!A1.jpg", "\u202egpj.exe",
    ],
)  # fmt: skip
def test_a_file_name_is_never_a_path_a_header_or_kept(name, upload, blobs_stored, settings, client):
    response = upload(photograph(), name=name)

    assert response.status_code in {202, 400}
    assert "X-Injected" not in response.headers
    if response.status_code == 202:
        assert [path.name for path in blobs_stored()] == [response.json["id"]]
        assert name[:12] not in client.get(response.json["links"]["self"]).text
    assert all(settings.data_dir in path.parents for path in blobs_stored())
