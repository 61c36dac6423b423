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
