"""The product as a clinic uses it: a key from the command line, a folder from the command line, answers in a table."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from lesionlens import Client
from tests.conftest import lesion_photograph
from tests.e2e.product import ROOT, Product


def lesionlens(product: Product, *arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lesionlens", *map(str, arguments)],
        cwd=ROOT, env={**product.environment, **environment}, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open() as file:
        return {Path(row["file"]).name: row for row in csv.DictReader(file)}


def test_a_folder_that_is_submitted_with_a_key_is_answered_as_in_one_process(product: Product, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for seed in (51, 52):
        (folder / f"lesion_{seed}.jpg").write_bytes(lesion_photograph(seed))
    (folder / "broken.jpg").write_bytes(b"no photograph")
    key = lesionlens(product, "keys", "create", "Clinic", "--daily-quota", 2).strip()

    lesionlens(product, "submit", folder, "--force", "--csv", tmp_path / "over.csv",
               LESIONLENS_URL=product.base_url, LESIONLENS_API_KEY=key)  # fmt: skip
    lesionlens(product, "classify", folder, "--force", "--csv", tmp_path / "here.csv")

    over, here = table(tmp_path / "over.csv"), table(tmp_path / "here.csv")
    assert list(over) == list(here)
    assert over["broken.jpg"] == here["broken.jpg"]
    for name in ("lesion_51.jpg", "lesion_52.jpg"):
        assert over[name]["state"] == here[name]["state"] == "done"
        assert over[name]["band"] == here[name]["band"]
        for column in over[name]:
            if column not in ("file", "state", "reason", "band"):
                assert float(over[name][column]) == pytest.approx(float(here[name][column]), abs=1e-6), column

    with Client(product.base_url, key) as client:
        analyses = list(client.analyses())
    assert len(analyses) == 2
    for analysis in analyses:
        for address in (f"/v1/analyses/{analysis.id}", f"/analyses/{analysis.id}"):
            assert requests.get(product.base_url + address, timeout=30).status_code == 404
