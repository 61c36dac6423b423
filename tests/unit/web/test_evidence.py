"""What is said about how well the networks work: measured where it was measured, and nothing otherwise."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from services.analysis.results import Band
from services.gateway.web.evidence import Evidence, read_evidence
from tests.unit.web.conftest import result
from training.report import summary

MEASURED = {
    "auc": 0.913,
    "auc_low": 0.9,
    "auc_high": 0.926,
    "images": 2275,
    "malignant": 524,
    "by_source": {
        "dermoscopy": {"images": 2188, "auc": 0.93, "auc_low": 0.91, "auc_high": 0.95},
        "pad_ufes_20": {"images": 87, "auc": 0.81},
    },
    "with_age": {
        "images": 2221,
        "auc": 0.924,
        "auc_low": 0.906,
        "auc_high": 0.936,
        "bands": {"low": {"share_of_the_malignant": 0.041}},
        "malignant_low_by_age": [{"from_years": 0, "share": 0.261}, {"from_years": 40, "share": 0.031}],
    },
    "bands": {"low": {"share_of_the_malignant": 0.0711}, "high": {"share_of_the_malignant": 0.8478}},
}


@pytest.fixture
def publish(tmp_path, desk):
    """Changes what `stack.json` says."""

    def published(**changes):
        stack = json.loads((tmp_path / "stack.json").read_text())
        (tmp_path / "stack.json").write_text(json.dumps(stack | changes))

    return published


def test_what_was_measured_on_unseen_photographs_is_told_and_rounded_to_the_worse_side(client, desk, read, publish):
    publish(metrics=MEASURED)
    words = read(client.get("/about")).words
    assert "Of 100 malignant spots in our tests, 92 were rated above the low group." in words
    assert "84 of 100 were rated high." in words
    assert "(AUC): 91% (90% – 93%) · n = 2,275" in words
    assert "dermatoscope images alone: 93% (91% – 95%) · n = 2,188" in words
    assert "phone photos alone: 81% · n = 87" in words
    assert "AUC for people of known age, with the age counted in: 92% (91% – 94%) · n = 2,221" in words
    assert "Measured on 2,275 photos that the networks had not seen before, 524 of them malignant." in words
    answer = read(client.get(f"/analyses/{desk.add_done().id}")).words
    assert "In our tests, 8 of 100 cancers were still in this group." in answer


@pytest.mark.parametrize(("age", "missed"), [(30, 27), (39, 27), (40, 5), (80, 5)])
def test_people_of_an_age_at_which_more_is_missed_are_told_so(client, desk, read, publish, age, missed):
    publish(metrics=MEASURED)
    counted = desk.add_done(age_years=age, result=replace(result(Band.LOW, 0.02), without_age=0.06))
    words = read(client.get(f"/analyses/{counted.id}")).words
    assert f"In our tests, {missed} of 100 cancers were still in this group." in words


def test_people_whose_age_does_not_count_are_told_what_is_missed_among_the_youngest(client, desk, read, publish):
    publish(metrics=MEASURED)
    words = read(client.get(f"/analyses/{desk.add_done(age_years=15).id}")).words
    assert "In our tests, 27 of 100 cancers were still in this group." in words


def test_a_stack_that_was_measured_before_ages_counted_tells_what_it_has(client, desk, read, publish):
    publish(metrics=MEASURED | {"with_age": {}})
    counted = desk.add_done(age_years=30, result=replace(result(Band.LOW, 0.02), without_age=0.06))
    assert "In our tests, 8 of 100 cancers" in read(client.get(f"/analyses/{counted.id}")).words


def test_what_the_bands_were_fitted_for_is_not_told_as_measured(client, desk, read, publish):
    publish(metrics={})
    for page in ("/about", f"/analyses/{desk.add_done().id}"):
        words = read(client.get(page)).words
        assert "rated above the low group" not in words
        assert "rated high" not in words
        assert "AUC" not in words


def test_the_models_that_are_shipped_come_with_measurements():
    evidence = read_evidence(Path(__file__).parents[3] / "serving" / "models")
    assert evidence is not None
    assert evidence.missed_below is not None
    assert evidence.found_high is not None
    assert evidence.ranking() is not None
    assert evidence.ranking("dermoscopy") is not None


def test_the_training_writes_what_the_page_reads():
    measured = json.loads((Path(__file__).parents[3] / "docs" / "evaluation.json").read_text())
    evidence = Evidence("1", 0.1, 0.2, summary({"same_split": True, **measured}))
    assert evidence.missed_below == math.ceil(100 * measured["bands"]["low"]["share_of_the_malignant"])
    assert evidence.images == measured["stack"]["images"]
    assert evidence.ranking().auc == pytest.approx(measured["stack"]["auc"], abs=1e-4)
    assert evidence.ranking("pad_ufes_20").images == measured["by_source"]["pad_ufes_20"]["images"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"version": "1", "bands": {"low_below": "?"}}'])
def test_a_damaged_description_is_no_evidence(tmp_path, content):
    (tmp_path / "stack.json").write_text(content)
    assert read_evidence(tmp_path) is None


@pytest.mark.parametrize("metrics", [None, [], "good", {"auc": None}, {"auc": "high"}, {"bands": []}])
def test_metrics_of_another_shape_claim_nothing(client, read, publish, metrics):
    publish(metrics=metrics)
    assert "AUC" not in read(client.get("/about")).words
