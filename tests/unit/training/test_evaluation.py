"""Measures against their definitions and against independent implementations."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from training.evaluation import (
    ages,
    auc_gain,
    auc_with_interval,
    binary_measures,
    class_measures,
    expected_calibration_error,
    flip_share,
    people,
    reliability,
    specificity_at,
)
from training.figures import draw_reliability, draw_roc
from training.samples import Sample


@pytest.fixture
def scored():
    rng = np.random.default_rng(3)
    malignant = rng.random(800) < 0.25
    # Rounded, so that there are ties.
    return np.round(rng.normal(malignant * 1.2, 1.0), 1), malignant


def test_auc_is_that_of_scikit_learn_also_with_ties(scored):
    score, malignant = scored
    assert auc_with_interval(score, malignant)[0] == pytest.approx(roc_auc_score(malignant, score))


def test_the_interval_of_the_auc_agrees_with_the_bootstrap(scored):
    score, malignant = scored
    rng = np.random.default_rng(0)
    resampled = []
    for _ in range(400):
        chosen = rng.integers(0, len(score), len(score))
        resampled.append(roc_auc_score(malignant[chosen], score[chosen]))
    _, low, high = auc_with_interval(score, malignant)
    assert [low, high] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.012)


def test_an_interval_of_images_that_are_clusters_of_their_own_is_that_of_delong(scored):
    score, malignant = scored
    positive, negative = score[malignant], score[~malignant]
    won = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = won.mean(axis=1).var(ddof=1) / len(positive) + won.mean(axis=0).var(ddof=1) / len(negative)
    auc, low, high = auc_with_interval(score, malignant, np.arange(len(score))[::-1])
    assert (auc, low, high) == pytest.approx(auc_with_interval(score, malignant))
    assert high - low == pytest.approx(2 * 1.959964 * np.sqrt(variance))


def test_seeing_every_image_three_times_makes_no_interval_narrower(scored):
    score, malignant = scored
    images = np.arange(len(score))
    once = auc_with_interval(score, malignant)
    thrice = auc_with_interval(np.tile(score, 3), np.tile(malignant, 3), np.tile(images, 3))
    assert thrice == pytest.approx(once)
    _, low, high = auc_with_interval(np.tile(score, 3), np.tile(malignant, 3))
    assert high - low < 0.6 * (once[2] - once[1])


def test_the_interval_holds_the_true_auc_nineteen_times_in_twenty_also_of_patients_with_many_images():
    """A patient has malignant and benign lesions, and all of them look alike to the classifier."""
    rng = np.random.default_rng(5)
    true = norm.cdf(1 / np.sqrt(2 * (1 + 1)))
    held = {"by patient": 0, "by image": 0}
    for _ in range(400):
        patient = np.repeat(np.arange(60), rng.integers(1, 12, 60))
        usually = rng.random(60) < 0.5
        malignant = np.where(rng.random(len(patient)) < 0.8, usually[patient], ~usually[patient])
        score = malignant + rng.normal(0, 1, 60)[patient] + rng.normal(0, 1, len(patient))
        for name, groups in (("by patient", patient), ("by image", None)):
            _, low, high = auc_with_interval(score, malignant, groups)
            held[name] += low <= true <= high
    assert held["by patient"] / 400 >= 0.92
    assert held["by image"] / 400 < 0.85


def test_what_one_score_gains_over_another_is_the_difference_of_their_aucs(scored):
    score, malignant = scored
    better = score + 0.3 * malignant
    gain, low, high = auc_gain(better, score, malignant)
    assert gain == pytest.approx(roc_auc_score(malignant, better) - roc_auc_score(malignant, score))
    assert low < gain < high
    assert auc_gain(score, better, malignant) == pytest.approx((-gain, -high, -low))
    assert auc_gain(score, score, malignant) == (0.0, 0.0, 0.0)


def test_the_interval_of_a_gain_agrees_with_a_bootstrap_of_whole_clusters(scored):
    score, malignant = scored
    rng = np.random.default_rng(2)
    patient = np.arange(len(score)) // 4
    better = score + 0.4 * malignant + rng.normal(0, 0.5, 200)[patient]
    resampled = []
    for _ in range(400):
        times = np.bincount(rng.integers(0, 200, 200), minlength=200)[patient]
        of_both = (roc_auc_score(malignant, each, sample_weight=times) for each in (better, score))
        resampled.append(next(of_both) - next(of_both))
    _, low, high = auc_gain(better, score, malignant, patient)
    assert [low, high] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.006)
    # Both scores err on the same images: the interval of either AUC alone would hide the gain.
    alone = auc_with_interval(score, malignant, patient)
    assert high - low < alone[2] - alone[1]


def test_auc_of_one_side_alone_is_refused():
    with pytest.raises(ValueError, match="malignant and benign"):
        auc_with_interval(np.array([0.1, 0.2]), np.array([True, True]))


def test_specificity_at_full_sensitivity_counts_the_benign_below_the_weakest_malignant():
    score = np.array([0.9, 0.4, 0.3, 0.5, 0.1])
    malignant = np.array([True, True, False, False, False])
    assert specificity_at(score, malignant, 1.0) == pytest.approx(2 / 3)


def test_calibration_error_is_zero_for_true_probabilities_and_the_gap_for_shifted_ones():
    rng = np.random.default_rng(1)
    probability = rng.random(50_000)
    happened = rng.random(50_000) < probability
    assert expected_calibration_error(probability, happened) < 0.01
    assert expected_calibration_error(np.full(1000, 0.9), np.zeros(1000, bool)) == pytest.approx(0.9)


def test_accuracy_and_weighted_recall_are_the_same_number(scored):
    score, malignant = scored
    measures = binary_measures(1 / (1 + np.exp(-score)), malignant, np.arange(len(score)))
    assert measures["accuracy"] == pytest.approx(measures["recall"])
    assert measures["images"] == 800


def test_balanced_accuracy_ignores_images_whose_diagnosis_is_not_known():
    allowed = np.eye(7)[[0, 1, 1, 2]]
    unknown = np.array([[0.0, 1, 0, 0, 1, 1, 1]])
    probability = np.eye(7)[[0, 1, 0, 2, 0]]
    measures = class_measures(probability, np.vstack([allowed, unknown]))
    assert measures == {"images": 4, "accuracy": 0.75, "balanced_accuracy": pytest.approx((1 + 0.5 + 1) / 3)}


def test_a_decision_flips_when_any_turn_disagrees():
    assert flip_share(np.array([[0.2, 0.6, 0.4], [0.3, 0.7, 0.6]]), 0.5) == pytest.approx(1 / 3)


def test_reliability_puts_every_image_into_one_bin_and_leaves_empty_ones_out():
    probability = np.array([0.0, 0.02, 0.55, 1.0])
    bins = reliability(probability, np.array([False, True, True, True]))
    assert bins == [
        {"images": 2, "probability": pytest.approx(0.01), "malignant": 0.5},
        {"images": 1, "probability": pytest.approx(0.55), "malignant": 1.0},
        {"images": 1, "probability": 1.0, "malignant": 1.0},
    ]


def test_people_are_grouped_by_what_their_source_tells():
    def of(age, sex, fitzpatrick=""):
        return Sample("i", "s", "nv", "", "f", age=age, sex=sex, fitzpatrick=fitzpatrick)

    groups = people([of("39.0", "female"), of("40", "Male", "2"), of("", "", "6"), of("85", "male", "3")])
    assert {name: list(np.flatnonzero(mask)) for name, mask in groups.items()} == {
        "women": [0],
        "men": [1, 3],
        "under 40 years": [0],
        "40 to 59 years": [1],
        "60 years and over": [3],
        "Fitzpatrick I–II": [1],
        "Fitzpatrick III–IV": [3],
        "Fitzpatrick V–VI": [2],
        "skin type not recorded": [0],
    }


def test_an_age_that_nobody_has_is_not_known():
    written = ["0", "35.0", "120", "", "unknown", "-1", "999", "inf", "nan"]
    samples = [Sample("i", "s", "nv", "", "f", age=age) for age in written]
    assert ages(samples) == pytest.approx([0, 35, 120, *[np.nan] * 6], nan_ok=True)
    groups = people(samples)
    assert list(np.flatnonzero(groups["under 40 years"])) == [0, 1]
    assert list(np.flatnonzero(groups["60 years and over"])) == [2]


def test_sex_and_skin_type_are_read_as_sources_write_them():
    def grouped(**about):
        (sample,) = [Sample("i", "s", "nv", "", "f", **about)]
        return [name for name, mask in people([sample]).items() if mask.any()]

    assert grouped(sex="F", fitzpatrick="II") == ["women", "Fitzpatrick I–II"]
    assert grouped(sex="m ", fitzpatrick="iv") == ["men", "Fitzpatrick III–IV"]
    assert grouped(fitzpatrick="6.0") == grouped(fitzpatrick=" VI") == ["Fitzpatrick V–VI"]
    assert grouped(fitzpatrick="-1") == grouped(fitzpatrick="12") == ["skin type not recorded"]


def test_figures_change_only_with_their_numbers(scored, tmp_path):
    score, malignant = scored
    for name in ("a.svg", "b.svg"):
        draw_roc({"stack": score, "alone": -score}, malignant, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "stack" in (tmp_path / "a.svg").read_text()
    draw_reliability([{"images": 7, "probability": 0.2, "malignant": 0.25}], tmp_path / "c.svg")
    assert ">7</text>" in (tmp_path / "c.svg").read_text()
