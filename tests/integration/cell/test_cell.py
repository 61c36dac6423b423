"""A decoder that crashes, swells or never returns costs one file its answer, and nobody else anything."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from services.preprocessor import confined
from services.preprocessor.cell import Cell, CellAnswer, CellDeath, CellTimeoutError
from services.preprocessor.confined import UNDECODABLE, prepare_confined, read
from services.preprocessor.imaging import PreparedLesion, QualityMeasures, prepare_lesion
from services.preprocessor.imaging.outcomes import WHOLE_SQUARE, Frame
from tests.conftest import lesion_photograph
from tests.hostile import many_pixels

FAULTY = "tests.integration.cell.faults:inside"


@pytest.fixture
def cell(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    cell = Cell(FAULTY, cpu_s=1, deadline_s=60)
    yield cell
    cell.close()


@pytest.mark.parametrize(
    ("fault", "why"),
    [("crash", f"signal {int(signal.SIGSEGV)}"), ("swell", "status 1"), ("raise", "status 1"),
     ("spin", "processor time"), ("chatter", "answer"), ("write", "status 1")],
)  # fmt: skip
def test_what_goes_wrong_costs_one_file(cell, fault, why):
    assert cell.run(b"fine") == CellAnswer({"fine": True}, b"pixels")
    waiting = cell.pid
    assert cell.run(fault.encode()) == CellDeath(why)
    assert cell.run(b"fine").body == b"pixels"
    assert cell.pid == waiting, "the cell itself outlives the files"


def test_a_decoder_that_sleeps_for_ever_is_ended_with_its_cell(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    cell = Cell(FAULTY, deadline_s=60)
    assert cell.run(b"fine").body == b"pixels"
    held = psutil.Process(cell.pid)
    cell._deadline_s = 1
    with pytest.raises(CellTimeoutError):
        cell.run(b"hang")
    assert not held.is_running()
    cell._deadline_s = 60
    assert cell.run(b"fine").body == b"pixels"
    cell.close()


def test_a_cell_knows_no_secret_and_leaves_no_file(cell, monkeypatch):
    for name in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY"):
        monkeypatch.setenv(name, "secret")
    assert cell.run(b"steal").head == {"found": []}
    cell.run(b"write")
    assert not Path("/tmp/ll-cell-was-here").exists() or not Path("/tmp/ll-cell-was-here").stat().st_size
    Path("/tmp/ll-cell-was-here").unlink(missing_ok=True)


def test_no_file_meets_what_another_one_left(cell):
    assert [cell.run(b"remember").head for _ in range(2)] == [{"memory": 1}] * 2


def test_who_stays_behind_is_gone_before_the_next_file(cell):
    left = cell.run(b"linger").head["pid"]
    waiting = cell.pid
    assert cell.run(b"fine").body == b"pixels"
    assert not psutil.pid_exists(left)
    assert cell.pid == waiting


def test_what_libraries_do_once_was_done_before_the_first_file(cell):
    assert [cell.run(b"ask").head for _ in range(2)] == [{"warmed up": 1}] * 2


def test_a_cell_that_was_killed_is_started_again(cell):
    cell.run(b"fine")
    os.kill(cell.pid, signal.SIGKILL)
    psutil.Process(cell.pid).wait(30)
    assert cell.run(b"fine").body == b"pixels"


def test_a_cell_ends_with_whoever_started_it(cell):
    cell.run(b"fine")
    process = psutil.Process(cell.pid)
    cell._process.stdin.close()
    ended, _ = psutil.wait_procs([process], timeout=30)
    assert ended == [process]


def test_a_lesion_comes_out_of_the_cell_as_it_does_without_one():
    data = lesion_photograph(3)
    plain, confined_ = prepare_lesion(data), prepare_confined(data)
    assert isinstance(plain, PreparedLesion)
    np.testing.assert_array_equal(plain.tensor, confined_.tensor)
    np.testing.assert_array_equal(plain.mask, confined_.mask)
    assert (plain.quality, plain.source_size, plain.concerns, plain.hair_share) == (
        confined_.quality, confined_.source_size, confined_.concerns, confined_.hair_share,
    )  # fmt: skip
    assert prepare_confined(b"no image") == prepare_lesion(b"no image")


def test_a_frame_comes_out_of_the_cell_as_it_does_without_one():
    data = lesion_photograph(3, disc=0.45)
    plain, confined_ = prepare_lesion(data), prepare_confined(data)
    np.testing.assert_array_equal(plain.tensor, confined_.tensor)
    assert plain.frame == confined_.frame != WHOLE_SQUARE


@pytest.mark.parametrize("changed", [{"left": -0.1}, {"side": 0.0}, {"top": 0.6}, {"side": "all"}, {"left": math.nan}])
def test_a_frame_outside_the_photograph_is_not_believed(changed):
    quality = dict.fromkeys(QualityMeasures.__slots__, 0.5)
    frame = {"left": 0.2, "top": 0.1, "side": 0.5}
    head = {"source_size": [300, 200], "quality": quality, "hair_share": 0, "mask_share": 0, "concerns": []}
    body = bytes(156_800)
    assert read(CellAnswer({**head, "frame": frame}, body)).frame == Frame(**frame)
    assert read(CellAnswer({**head, "frame": frame | changed}, body)) == UNDECODABLE


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ({}, b""), ({"rejection": {}}, b""), ({"rejection": {"code": 1, "sentence": "", "soft": True}}, b""),
        ({"rejection": {"code": "x" * 501, "sentence": "", "soft": False}}, b""),
        ({"source_size": [1, 1], "quality": {}, "hair_share": 0, "mask_share": 0, "concerns": []}, bytes(156_800)),
        ({"source_size": "no", "quality": 3, "hair_share": "NaN", "mask_share": [], "concerns": 1}, bytes(156_800)),
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_is_not_believed(head, body):
    assert read(CellAnswer(head, body)) == UNDECODABLE


@pytest.mark.slow
def test_the_largest_photograph_fits_into_the_limit(monkeypatch):
    """The costliest kind that is accepted: 59 megapixels with transparency. The clock is patient, the limits real."""
    patient = Cell("services.preprocessor.confined:inside", deadline_s=120)
    monkeypatch.setattr(confined, "_cell", lambda: patient)
    outcome = prepare_confined(many_pixels("PNG", "RGBA"), force=True)
    patient.close()
    assert isinstance(outcome, PreparedLesion), outcome
    assert outcome.source_size == (7_680, 7_680)


def test_memory_that_a_file_asks_for_beyond_the_limit_is_not_given(monkeypatch):
    small = Cell("services.preprocessor.confined:inside", memory_bytes=128 << 20, deadline_s=120)
    monkeypatch.setattr(confined, "_cell", lambda: small)
    outcome = prepare_confined(many_pixels("PNG", "RGB"), force=True)
    assert outcome.code in {"truncated", "undecodable"}
    assert isinstance(prepare_confined(lesion_photograph(1)), PreparedLesion)
    small.close()
    assert Image.MAX_IMAGE_PIXELS is not None
