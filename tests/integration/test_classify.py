"""`lesionlens classify`: the shipped networks, in this process, on files and folders."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.analysis.results import CLASSES, NETWORKS


def classify(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lesionlens", "classify", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two lesions in a tree, with files that are none."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "more").mkdir()
    (folder / "lesion_0.jpg").write_bytes((photographs / "lesion_0.jpg").read_bytes())
    (folder / "more" / "lesion_4.png").write_bytes((photographs / "more" / "lesion_4.png").read_bytes())
    (folder / "broken.jpg").write_bytes(b"no image at all")
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not looked at")
    Image.fromarray(np.full((300, 300, 3), 128, np.uint8)).save(folder / "blank.png")
    return folder


@pytest.fixture(scope="module")
def table(folder: Path) -> dict[str, dict[str, str]]:
    """The CSV of the folder by file name, forced: all answers, all reasons."""
    path = folder / "out.csv"
    done = classify(folder, "--csv", path, "--force")
    assert done.returncode == 0, done.stderr
    with path.open() as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    assert list(next(iter(rows.values()))) == [
        "file", "state", "reason", "probability", "band",
        *(f"logit_{name}" for name in NETWORKS), *(f"class_{name}" for name in CLASSES),
    ]  # fmt: skip
    return rows


def test_every_image_of_the_tree_is_a_row_and_nothing_else(table: dict[str, dict[str, str]]) -> None:
    assert set(table) == {"lesion_0.jpg", "lesion_4.png", "broken.jpg", "empty.png", "blank.png"}


def test_a_lesion_gets_a_probability_from_four_networks(table: dict[str, dict[str, str]]) -> None:
    row = table["lesion_0.jpg"]
    assert row["state"] == "done"
    assert 0 < float(row["probability"]) < 1
    assert row["band"] in {"low", "unsure", "high"}
    assert len({float(row[f"logit_{name}"]) for name in NETWORKS}) == 4
    assert sum(float(row[f"class_{name}"]) for name in CLASSES) == pytest.approx(1)
    assert row["probability"] != table["lesion_4.png"]["probability"]


@pytest.mark.parametrize(("name", "reason"), [("broken.jpg", "not_an_image"), ("empty.png", "empty")])
def test_what_cannot_be_read_is_a_row_with_a_reason_even_when_forced(
    table: dict[str, dict[str, str]], name: str, reason: str
) -> None:
    assert table[name]["state"] == "rejected"
    assert table[name]["reason"] == reason
    assert table[name]["probability"] == ""


def test_the_age_counts_in_the_answer(folder: Path) -> None:
    told = {}
    for age in (25, 75):
        done = classify(folder / "lesion_0.jpg", "--json", "--age", age)
        told[age] = json.loads(done.stdout)["result"]
    assert told[25]["probability"] < told[75]["probability"]
    assert told[25]["without_age"] == told[75]["without_age"]


def test_force_answers_for_poor_quality_and_keeps_the_reason(table: dict[str, dict[str, str]], folder: Path) -> None:
    assert table["blank.png"]["state"] == "done"
    assert "blank" in table["blank.png"]["reason"]
    assert float(table["blank.png"]["probability"]) >= 0
    without = classify(folder / "blank.png", "--json")
    assert without.returncode == 0, "a poor photograph was read all the same"
    assert json.loads(without.stdout) == {
        "file": str(folder / "blank.png"),
        "state": "rejected",
        "reason": "blank",
        "result": None,
    }


def test_the_same_file_gives_the_same_answer_again(table: dict[str, dict[str, str]], folder: Path) -> None:
    again = json.loads(classify(folder / "lesion_0.jpg", "--json", "--force").stdout)
    assert again["result"]["probability"] == pytest.approx(float(table["lesion_0.jpg"]["probability"]), abs=1e-6)


def test_nothing_readable_is_exit_status_1(folder: Path, tmp_path: Path) -> None:
    done = classify(folder / "broken.jpg", tmp_path / "missing.jpg")
    assert done.returncode == 1
    assert "could be read" in done.stderr
    assert [row["state"] for row in csv.DictReader(done.stdout.splitlines())] == ["rejected", "rejected"]


@pytest.mark.parametrize("arguments", [[], ["--no-such-option", "x.jpg"]])
def test_wrong_usage_is_exit_status_2(arguments: list[str]) -> None:
    assert classify(*arguments).returncode == 2


def test_models_that_do_not_fit_their_stack_answer_nothing(folder: Path, tmp_path: Path) -> None:
    done = classify(folder / "lesion_0.jpg", "--models", tmp_path)
    assert done.returncode == 1
    assert "stack.json" in done.stderr
