"""The stack answers better than its parts, calibrated, and in the service's own arithmetic."""

import json

import numpy as np
import pytest

from services.stacker.out_of_distribution import familiarity_from
from services.stacker.stacking import Stack as ServedStack
from services.stacker.stacking import combine
from serving.answers import NetworkAnswer
from training.answers import side_by_side
from training.evaluation import auc_with_interval, expected_calibration_error
from training.out_of_distribution import fit_familiarity
from training.stacking import (
    TooFewForAStackError,
    assured_threshold,
    fit_stack,
    malignant_logits,
    refuse_too_few,
    stack_json,
    threshold_at_sensitivity,
    turns_of,
    turns_to_fit,
)
from training.vocabulary import CLASSES, MALIGNANT_INDICES

NETWORKS = ("mobilenet", "densenet121", "densenet169", "nasnetmobile")


def answered(count: int, seed: int):
    """Class logits of four networks that each see the truth through noise of their own; the last sees nothing."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(7, count, p=[0.1, 0.55, 0.06, 0.06, 0.18, 0.02, 0.03])
    strength = np.array([1.5, 2.0, 2.0, 0.0])[:, None, None]
    logits = strength * np.eye(7)[truth] + rng.normal(0, 1.2, (4, count, 7))
    allowed = np.eye(7)[truth]
    allowed[(truth == 1) & (rng.random(count) < 0.2)] = [0, 1, 0, 0, 1, 1, 1]
    return logits, allowed, np.arange(count) // 2


@pytest.fixture(scope="module")
def fitted():
    logits, allowed, groups = answered(1500, 0)
    return fit_stack(logits, allowed, groups)[0]


def malignant_of(allowed):
    return allowed[:, list(MALIGNANT_INDICES)].max(axis=1) > 0


def test_the_stack_beats_every_network_and_leaves_the_blind_one_out(fitted):
    logits, allowed, _ = answered(3000, 1)
    malignant = malignant_of(allowed)
    stacked = auc_with_interval(fitted.probability(logits), malignant)[0]
    alone = [auc_with_interval(s, malignant)[0] for s in malignant_logits(logits).T]
    assert stacked > max(alone)
    assert abs(fitted.malignant[3]) < 0.2 * fitted.malignant[:3].min()


def test_its_probabilities_are_calibrated_on_other_images(fitted):
    logits, allowed, _ = answered(3000, 2)
    assert expected_calibration_error(fitted.probability(logits), malignant_of(allowed)) < 0.03


def test_bands_stand_at_the_declared_sensitivities(fitted):
    logits, allowed, _ = answered(1500, 0)
    probability, malignant = fitted.probability(logits), malignant_of(allowed)
    # The low band promises its sensitivity for others, so it is stricter with those it was fitted to.
    assert 0.955 < (probability[malignant] >= fitted.low_below).mean() < 0.98
    assert (probability[malignant] >= fitted.high_from).mean() == pytest.approx(0.90, abs=0.01)
    assert fitted.low_below < fitted.high_from


def test_a_threshold_keeps_at_least_the_sensitivity_asked_for():
    probability = np.array([0.9, 0.8, 0.7, 0.6, 0.1])
    malignant = np.array([True, True, True, True, False])
    assert threshold_at_sensitivity(probability, malignant, 0.75) == 0.7
    assert threshold_at_sensitivity(probability, malignant, 0.76) == 0.6


def test_an_assured_threshold_keeps_its_sensitivity_for_others_nineteen_times_in_twenty():
    rng = np.random.default_rng(3)
    kept = []
    for _ in range(600):
        threshold = assured_threshold(rng.random(300), np.ones(300, bool), np.arange(300), 0.95, 0.95)
        kept.append(1 - threshold >= 0.95)  # of the uniform distribution itself, not of the 300
    assert 0.94 <= np.mean(kept) <= 0.995
    few = np.array([0.3, 0.2, 0.4])
    assert assured_threshold(few, np.ones(3, bool), np.arange(3), 0.95, 0.95) == 0.2


def test_more_images_of_the_same_lesions_assure_of_nothing_more():
    rng = np.random.default_rng(4)
    lesions, benign = rng.random(200), rng.random(500)
    malignant = np.arange(700) < 200

    def assured(images_of_a_lesion, groups):
        probability = np.concatenate([np.tile(lesions, images_of_a_lesion), benign])
        kind = np.concatenate([np.tile(malignant[:200], images_of_a_lesion), malignant[200:]])
        return assured_threshold(probability, kind, groups, 0.95, 0.95)

    alone = assured(1, np.arange(700))
    assert assured(4, np.concatenate([np.tile(np.arange(200), 4), np.arange(200, 700)])) == alone
    assert assured(4, np.arange(1300)) > alone  # what would be promised if the images were different lesions


def test_a_lesion_is_below_the_assured_threshold_with_its_lowest_image():
    probability = np.linspace(0.01, 1.0, 100)
    pairs = np.tile(np.arange(100), 2)
    seen_twice = np.concatenate([probability, np.full(100, 0.99)])
    assert assured_threshold(seen_twice, np.ones(200, bool), pairs, 0.95, 0.95) == assured_threshold(
        probability, np.ones(100, bool), np.arange(100), 0.95, 0.95
    )


@pytest.mark.parametrize("turns", [(1, 1, 1, 1), (4, 4, 4, 4), (8, 2, 4, 1)])
def test_the_service_reads_the_file_and_answers_what_training_answered(fitted, turns):
    seen = [np.stack([answered(5, 3 + turn)[0][k] for turn in range(count)]) for k, count in enumerate(turns)]
    logits = side_by_side(seen)
    entries = [{"name": n, "version": 1, "sha256": "0" * 64, "turns": t} for n, t in zip(NETWORKS, turns, strict=True)]
    content = stack_json(
        fitted,
        entries,
        version="1",
        measured_on="test",
        test_time_augmentation=2,
        out_of_distribution=None,
        metrics={},
    )
    served = ServedStack.model_validate(json.loads(json.dumps({**content, "split": "0" * 64})))
    assert served == ServedStack.model_validate(content)
    classes = fitted.class_probabilities(logits)
    assert tuple(served.turns.values()) == tuple(turns_of(content).values()) == turns
    for i in range(5):
        answers = [
            NetworkAnswer(
                name=name,
                version=1,
                logit=malignant_logits(seen[k])[i].astype(np.float32),
                class_logits=seen[k][:, i].astype(np.float32),
                attention=np.zeros((turns[k], 7, 7), np.float32),
                embedding=None,
            )
            for k, name in enumerate(NETWORKS)
        ]
        result = combine(served, answers)
        assert result.probability == pytest.approx(fitted.probability(logits)[i], abs=1e-4)
        assert [p for _, p in result.classes] == pytest.approx(classes[i], abs=1e-4)
        assert [name for name, _ in result.classes] == list(CLASSES)


@pytest.mark.parametrize(
    ("asked", "of_one", "looks"),
    [
        (None, {}, (2, (8, 2, 2, 1))),
        (None, {"nasnetmobile": 4}, (2, (8, 2, 2, 4))),
        (1, {}, (1, (1, 1, 1, 1))),
        (4, {"mobilenet": 8}, (4, (8, 4, 4, 4))),
    ],
)
def test_networks_look_as_often_as_published_unless_something_else_is_asked(asked, of_one, looks):
    entries = [{"name": name, "turns": turns} for name, turns in zip(NETWORKS, (8, None, 2, 1), strict=True)]
    usual, each = turns_to_fit({"networks": entries, "test_time_augmentation": 2}, asked, of_one)
    assert (usual, tuple(each.values())) == looks
    assert turns_to_fit({}, None, {}) == (1, dict.fromkeys(NETWORKS, 1))


def test_a_class_without_an_image_gets_a_small_probability_and_no_error():
    logits, allowed, groups = answered(800, 4)
    known = allowed[:, 5] == 0
    stack, _ = fit_stack(logits[:, known], allowed[known], groups[known])
    assert stack.class_probabilities(logits)[:, 5].max() < 0.2


def test_two_diagnoses_are_told_apart_as_seven_are():
    logits, allowed, groups = answered(1500, 5)
    two = allowed[:, [0, 1]].max(axis=1) * (allowed.sum(axis=1) == 1) > 0
    stack, _ = fit_stack(logits[:, two], allowed[two], groups[two])
    other_logits, other, _ = answered(1500, 6)
    certain = other.sum(axis=1) == 1
    for diagnosis in (0, 1):
        told = stack.class_probabilities(other_logits[:, certain & (other[:, diagnosis] > 0)])
        assert (told.argmax(axis=1) == diagnosis).mean() > 0.9
        assert told[:, [0, 1]].sum(axis=1).mean() > 0.95


def test_strange_embeddings_are_told_apart_in_the_service_s_own_scoring():
    rng = np.random.default_rng(0)
    lesions = np.abs(rng.normal(1.0, 0.4, (900, 64)))
    others = np.abs(rng.normal(1.0, 0.4, (500, 64)) + 0.6 * (np.arange(64) % 3 == 0))
    fitted = json.loads(json.dumps(fit_familiarity("mobilenet", lesions[:600], others[:400], lesions[600:])))
    familiarity = familiarity_from(fitted)
    assert familiarity.network == "mobilenet"
    assert (familiarity.score(lesions[600:]) > familiarity.threshold).mean() <= 0.03
    assert (familiarity.score(others[400:]) > familiarity.threshold).mean() >= 0.9


def test_what_can_be_fitted_is_not_refused():
    logits, allowed, groups = answered(120, 6)
    refuse_too_few(allowed, groups)
    fit_stack(logits, allowed, groups)


@pytest.mark.parametrize(
    "few",
    [
        lambda allowed, groups: (allowed[malignant_of(allowed)], groups[malignant_of(allowed)]),
        lambda allowed, groups: (allowed[~malignant_of(allowed)], groups[~malignant_of(allowed)]),
        lambda allowed, groups: (allowed, groups % 4),
        lambda allowed, groups: (allowed, np.where(malignant_of(allowed), 0, groups + 1)),
        lambda allowed, groups: (np.where(malignant_of(allowed)[:, None], np.eye(7)[0], [0, 1, 0, 0, 1, 1, 1]), groups),
        lambda allowed, groups: (allowed[:0], groups[:0]),
    ],
    ids=["malignant alone", "benign alone", "four patients", "one malignant patient", "one diagnosis", "nothing"],
)
def test_what_no_stack_can_be_fitted_to_is_refused_in_words(few):
    _, allowed, groups = answered(120, 6)
    with pytest.raises(TooFewForAStackError, match="no stack can be fitted"):
        refuse_too_few(*few(allowed, groups))
