"""A photograph goes all the way: gateway, queue, preprocessor, four networks, stacker, database, and back."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from services.analysis.results import CLASSES, NETWORKS
from tests.conftest import lesion_photograph
from tests.e2e.product import DONE_WITHIN_S, ROOT, Product, eventually


def test_an_upload_is_answered_by_four_networks_that_differ(product: Product) -> None:
    response = product.upload(lesion_photograph(11), force="true")

    assert response.status_code == 202
    assert response.headers["Location"].endswith(f"/v1/analyses/{response.json()['id']}")
    assert int(response.headers["Retry-After"]) >= 1
    answer = product.ended(response.json()["id"])
    assert answer["state"] == "done", answer
    result = answer["result"]
    assert [network["name"] for network in result["networks"]] == list(NETWORKS)
    assert len({round(network["logit"], 6) for network in result["networks"]}) == 4
    assert 0 < result["probability"] < 1
    assert result["band"] in ("low", "unsure", "high")
    assert [entry["name"] for entry in result["classes"]] == list(CLASSES)
    assert sum(entry["probability"] for entry in result["classes"]) == pytest.approx(1, abs=1e-6)
    assert result["model_version"]
    assert "dermatologist" in str(result["guidance"]) or "doctor" in str(result["guidance"])
    assert "not a medical device" in str(result["disclaimer"]).lower() or "not a diagnosis" in str(result["disclaimer"])


def test_different_photographs_get_different_answers_and_the_same_one_the_same(product: Product) -> None:
    ids = product.accept_at_once([lesion_photograph(seed) for seed in (21, 22, 23, 21)], force="true")

    probabilities = [product.ended(analysis_id)["result"]["probability"] for analysis_id in ids]
    assert len(set(probabilities)) == 3
    assert probabilities[0] == probabilities[3]


def test_the_command_line_gives_the_same_probabilities(product: Product, tmp_path: Path) -> None:
    images = {f"lesion_{seed}.jpg": lesion_photograph(seed) for seed in (31, 32, 33)}
    for name, image in images.items():
        (tmp_path / name).write_bytes(image)

    ids = dict(zip(images, product.accept_at_once(list(images.values()), force="true"), strict=True))
    table = tmp_path / "out.csv"
    subprocess.run(
        [sys.executable, "-m", "lesionlens", "classify", str(tmp_path), "--force", "--csv", str(table)],
        cwd=ROOT, env=product.environment, check=True, capture_output=True, timeout=150,
    )  # fmt: skip

    with table.open() as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    assert set(rows) == set(images)
    for name, row in rows.items():
        result = product.ended(ids[name])["result"]
        assert float(row["probability"]) == pytest.approx(result["probability"], abs=1e-6)
        for network in result["networks"]:
            assert float(row[f"logit_{network['name']}"]) == pytest.approx(network["logit"], abs=1e-6)


def test_what_is_deleted_is_gone(product: Product) -> None:
    analysis_id = product.accepted(lesion_photograph(41), force="true")
    address = f"{product.base_url}/v1/analyses/{analysis_id}"

    assert requests.delete(address, timeout=30).status_code == 204

    assert requests.get(address, timeout=30).status_code == 410
    # A worker that had it in hand notices when it records its work, and removes what it has stored.
    eventually(lambda: not list((product.folder / "blobs").rglob(f"{analysis_id}*")), DONE_WITHIN_S)


def test_it_counts_what_it_does(product: Product) -> None:
    product.ended(product.accepted(lesion_photograph(42), force="true"))

    text = requests.get(f"{product.base_url}/metrics", timeout=30).text
    accepted = [line for line in text.splitlines() if line.startswith("lesionlens_uploads_accepted")]
    assert accepted, text
    assert float(accepted[0].rsplit(" ", 1)[1]) >= 1
