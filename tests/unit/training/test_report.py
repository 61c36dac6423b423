"""What the page of an evaluation says, and what goes into the stack."""

import pytest

from training.report import markdown, summary

RATES = "auc auc_low auc_high accuracy precision recall f1 specificity_at_90 specificity_at_95 ece"
MEASURED = dict.fromkeys(RATES.split(), 0.9)
TURNED = "flips_at_half flips_at_high_band flips_at_half_one_look flips_at_half_one_look_as_it_lies auc_1 auc_4 auc_8"
CHANGED = {"images": 9, "auc_before": 0.9} | dict.fromkeys(TURNED.split(), 0.1)


@pytest.fixture
def page():
    """The page for people and sources of whom so much was measured."""

    def told(by_person, by_source=None):
        return markdown(evaluation(by_person, by_source or {}))

    return told


def evaluation(by_person, by_source):
    return {
        "side": "test",
        "same_split": True,
        "turns": {"mobilenet": 1},
        "stack": {"images": 100, "malignant": 40} | MEASURED,
        "mean_of_logits": MEASURED,
        "alone": {},
        "classes": {"images": 90, "accuracy": 0.8, "balanced_accuracy": 0.7},
        "bands": {},
        "reliability": [],
        "by_source": by_source,
        "by_person": by_person,
        "turning": CHANGED,
        "brightness": CHANGED,
        "another_camera": CHANGED | MEASURED,
        "dermatoscope": CHANGED | MEASURED,
        "surroundings": CHANGED | MEASURED,
    }


def few(images, malignant=3):
    return {"images": images, "malignant": malignant}


def test_a_group_too_small_to_measure_has_a_row_that_says_so(page):
    rows = page({"women": few(60) | MEASURED, "Fitzpatrick V–VI": few(12)}).splitlines()
    assert "| Fitzpatrick V–VI | 12 | 3 | too few to measure | | | |" in rows
    assert any(row.startswith("| women | 60 | 3 | 0.900") for row in rows)


@pytest.mark.parametrize(
    ("by_person", "said"),
    [
        (
            {"skin type not recorded": few(100)},
            "for 0 of the 100 images, Fitzpatrick V–VI for 0: how well {} is not known",
        ),
        (
            {"skin type not recorded": few(70), "Fitzpatrick V–VI": few(12)},
            "for 30 of the 100 images, Fitzpatrick V–VI for 12: how well {} is not known",
        ),
        (
            {"Fitzpatrick I–II": few(70), "Fitzpatrick V–VI": few(30) | MEASURED},
            "for 100 of the 100 images, Fitzpatrick V–VI for 30: how well {} has a row above",
        ),
    ],
    ids=["nobody", "too few", "measured"],
)
def test_what_is_known_of_dark_skin_is_what_was_measured(page, by_person, said):
    assert "Skin type is known " + said.format("the networks do on dark skin") in page(by_person)


def test_what_was_not_measured_of_a_source_is_not_told_of_a_stack():
    told = summary(evaluation({}, {"phone": few(60) | MEASURED, "mine": few(5)}))
    assert list(told["by_source"]) == list(told["auc_by_source"]) == ["phone"]


def of_an_age(auc, probability, low):
    return {"auc": auc, "auc_low": auc - 0.02, "auc_high": auc + 0.02, "probability": probability, "malignant_low": low}


WITH_AGE = {
    "images": 90,
    "without": {"images": 90, "malignant": 36} | MEASURED | {"auc": 0.914, "auc_low": 0.897, "auc_high": 0.93},
    "with": {"images": 90, "malignant": 36}
    | MEASURED
    | {"auc": 0.92109, "auc_low": 0.905, "auc_high": 0.937, "accuracy": 0.88, "ece": 0.02},
    "auc_gain": {"auc": 0.0074, "auc_low": 0.0034, "auc_high": 0.0113},
    "bands": {"low": {"share": 0.45, "malignant_in_it": 0.0204, "share_of_the_malignant": 0.051}},
    "by_age": {
        "under 40 years": few(50, 20)
        | {"malignant_share": 0.4, "without": of_an_age(0.9, 0.103, 0.02), "with": of_an_age(0.91, 0.065, 0.13)},
        "40 to 59 years": few(10),
    },
}


def test_what_an_age_changes_is_told_by_age(page):
    assert "## With the age of the person" not in page({})
    told = markdown(evaluation({}, {}) | {"with_age": WITH_AGE})
    _, section = told.split("## With the age of the person\n")
    assert section.strip().startswith("The age is known for 90 of the 100 images, 36 of them malignant.")
    assert "AUC is 0.921 (0.905–0.937) with the age and 0.914 (0.897–0.930) without it" in section
    assert "+0.007 (+0.003 to +0.011)" in section
    assert "accuracy 88.0 % with it, 90.0 % without" in section
    rows = section.splitlines()
    assert "| under 40 years | 50 | 20 | 0.900 / 0.910 | 10.3 / 6.5 | 40.0 | 2.0 / 13.0 |" in rows
    assert "| 40 to 59 years | 10 | 3 | too few to measure | | | |" in rows
    assert "| low | 45.0 | 2.0 | 5.1 |" in rows


def test_an_age_that_was_not_measured_is_not_told_of_a_stack():
    assert "with_age" not in summary(evaluation({}, {}))
    assert summary(evaluation({}, {}) | {"with_age": WITH_AGE})["with_age"] == {
        "images": 90,
        "auc": 0.9211,
        "auc_low": 0.905,
        "auc_high": 0.937,
        "accuracy": 0.88,
        "ece": 0.02,
        "auc_without": 0.914,
        "bands": WITH_AGE["bands"],
        "malignant_low_by_age": [{"from_years": 0, "share": 0.13}],
    }
