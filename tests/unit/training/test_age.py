"""A person's age moves the stack's answer as far as it was seen to, and not at all where it says nothing."""

import json

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from services.stacker.age import AgeRegression
from services.stacker.stacking import Stack as ServedStack
from training.age import age_from, age_json, fit_age, stack_logit
from training.stacking import Stack, stack_json
from training.vocabulary import CLASSES

TERM = AgeRegression(scale=0.9, per_decade=0.25, intercept=-0.2, from_years=20, to_years=85)


def seen(count=3000, *, per_decade=0.4, known=1.0, seed=0):
    """Stack logits, ages, malignant, clusters: of lesions that are likelier malignant by so much with every decade."""
    rng = np.random.default_rng(seed)
    years = rng.integers(15, 91, count).astype(float)
    truth = rng.normal(-1.5, 1.5, count)
    malignant = rng.random(count) < expit(truth + per_decade * (years - 50) / 10)
    years[rng.random(count) >= known] = np.nan
    return truth, years, malignant, np.arange(count) // 2


def test_the_age_moves_the_logit_by_so_much_a_decade_around_fifty():
    answers = np.array([1.0, 1.0, -2.0])
    moved = TERM.logits(answers, np.array([50.0, 70.0, 40.0]))
    assert moved == pytest.approx([0.9 - 0.2, 0.9 + 0.5 - 0.2, -1.8 - 0.25 - 0.2])


def test_the_older_count_as_the_oldest_it_was_fitted_to_and_the_younger_not_at_all():
    moved = TERM.logits(np.full(4, 0.3), np.array([3.0, 19.0, 85.0, 101.0]))
    assert list(moved[:2]) == [0.3, 0.3]
    assert moved[2] == moved[3] > 0.3


@pytest.mark.parametrize("years", [0, 19, 20, 50, 85, 120])
def test_one_person_is_answered_as_in_a_crowd(years):
    alone = TERM.effect(years).logit(-1.3)
    assert TERM.logits(np.array([-1.3]), np.array([float(years)])) == pytest.approx([alone], rel=1e-12)


def test_without_an_age_the_answer_is_the_stack_s_own():
    answers = np.array([0.3, -4.0])
    assert list(TERM.logits(answers, np.full(2, np.nan))) == [0.3, -4.0]


def test_what_an_age_is_worth_is_found_again():
    term = fit_age(*seen(20_000))
    assert term is not None
    assert (term.scale, term.per_decade, term.intercept) == pytest.approx((1.0, 0.4, 0.0), abs=0.06)


def test_other_people_are_answered_better_with_their_age():
    term = fit_age(*seen())
    answers, years, malignant, _ = seen(seed=1)
    with_age = term.logits(answers, years)
    assert roc_auc_score(malignant, with_age) > roc_auc_score(malignant, answers) + 0.02
    assert log_loss(malignant, expit(with_age)) < log_loss(malignant, expit(answers)) - 0.01


def test_it_holds_for_all_but_the_youngest_and_oldest_twentieth_in_whole_years():
    answers, years, malignant, groups = seen(2000)
    term = fit_age(answers, years + 0.4, malignant, groups)
    low, high = np.percentile(years + 0.4, [5, 95])
    assert (term.from_years, term.to_years) == (round(low), round(high))
    assert isinstance(term.from_years, int)


def test_images_of_unknown_age_change_nothing():
    answers, years, malignant, groups = seen(known=0.6)
    known = ~np.isnan(years)
    assert 0 < known.sum() < len(known)
    assert fit_age(answers, years, malignant, groups) == fit_age(
        answers[known], years[known], malignant[known], groups[known]
    )


def test_an_age_that_says_nothing_is_not_asked_for():
    """What chance finds in it is hardly ever more than the chance that is in what it finds."""
    found = [fit_age(*seen(600, per_decade=0.0, seed=seed)) for seed in range(20)]
    assert sum(term is not None for term in found) <= 1


def test_an_age_that_everybody_has_is_not_asked_for():
    answers, years, malignant, groups = seen()
    assert fit_age(answers, np.full_like(years, 35.0), malignant, groups) is None


def test_an_age_never_turns_the_stack_s_answer_upside_down():
    """The age tells well, and the stack's answer is the wrong way round: what answers would not take such a file."""
    answers, years, malignant, groups = seen()
    assert fit_age(-answers, years, malignant, groups) is None


def test_an_age_that_was_not_told_is_not_asked_for():
    answers, years, malignant, groups = seen()
    assert fit_age(answers, np.full_like(years, np.nan), malignant, groups) is None


@pytest.mark.parametrize("few", [True, False], ids=["malignant", "benign"])
def test_what_was_learnt_from_many_images_of_few_lesions_would_be_theirs_alone(few):
    """As many images each time; what counts is of how many lesions or patients they are."""
    answers, years, malignant, groups = seen(per_decade=1.0)
    kind = malignant == few
    images = np.cumsum(kind) - 1
    assert fit_age(answers, years, malignant, np.where(kind, images % 20, 10_000 + groups)) is not None
    assert fit_age(answers, years, malignant, np.where(kind, images % 19, 10_000 + groups)) is None


def test_where_no_part_could_be_judged_by_the_others_none_is_fitted():
    """Four patients of a thousand benign images each: all others, and so all malignant, are in one fold."""
    rng = np.random.default_rng(2)
    groups = np.concatenate([np.repeat(np.arange(4), 1000), np.arange(4, 54)])
    malignant = groups >= 29
    years = 40.0 + 20 * malignant + rng.normal(0, 10, len(groups))
    assert fit_age(rng.normal(malignant, 1.0), years, malignant, groups) is None


def test_what_the_file_says_is_what_was_fitted():
    term = fit_age(*seen())
    written = json.loads(json.dumps(age_json(term, "validation side")))
    assert set(written) == {"scale", "per_decade", "intercept", "from_years", "to_years", "measured_on"}
    assert written["measured_on"] == "validation side"
    read = age_from(written)
    answers, years = np.linspace(-5, 5, 20), np.linspace(0, 100, 20)
    assert read.logits(answers, years) == pytest.approx(term.logits(answers, years), abs=1e-4)


def test_a_file_that_says_nothing_of_an_age_has_none():
    assert age_from(None) is None
    assert age_json(None, "validation side") is None


@pytest.mark.parametrize("term", [TERM, None], ids=["fitted", "not fitted"])
def test_a_stack_tells_of_an_age_only_where_one_was_fitted(term):
    stack = Stack(np.full(4, 0.25), -0.5, np.zeros((7, 28)), np.zeros(7), low_below=0.1, high_from=0.4)
    networks = ("mobilenet", "densenet121", "densenet169", "nasnetmobile")
    content = stack_json(
        stack,
        [{"name": name, "version": 1, "sha256": "0" * 64} for name in networks],
        version="1",
        measured_on="validation side",
        test_time_augmentation=1,
        out_of_distribution=None,
        metrics={},
        age=age_json(term, "validation side"),
    )
    assert age_from(content.get("age")) == term
    assert ("age" in content) == (term is not None)
    assert ServedStack.model_validate(content).age == term


def test_the_stack_s_logit_is_that_of_its_probability():
    logits = np.random.default_rng(4).normal(0, 2, (2, 4, 6, len(CLASSES)))
    stack = Stack(np.array([0.7, 0.2, 0.3, -0.1]), -1.1, np.zeros((7, 28)), np.zeros(7), low_below=0.1, high_from=0.4)
    assert expit(stack_logit(stack, logits)) == pytest.approx(stack.probability(logits))
