"""How long a training goes on, and how fast it learns on the way."""

import importlib.util

import pytest

from training.recipe import Phase, Recipe

pytestmark = pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras is not installed")


def test_the_progress_bar_ends_where_the_phase_does():
    from training.finetuning import steps_left

    recipe = Recipe("mobilenet", epochs=2, epoch_images=1000, batch=32)
    phase = Phase(160, 0.5)

    assert steps_left(recipe, phase, 0) == 32  # 1,000 images
    assert steps_left(recipe, phase, 960) == 2
    assert steps_left(recipe, phase, 1024) == 1, "a phase that is resumed at its very end still ends by itself"


def test_a_budget_of_time_has_no_number_of_steps():
    from training.finetuning import steps_left

    assert steps_left(Recipe("mobilenet", minutes=5), Phase(160, 1.0), 0) is None


def test_the_learning_rate_warms_up_and_falls_to_nothing():
    from training.finetuning import rate_factor

    rates = [rate_factor(spent / 100, 0.1) for spent in range(101)]

    assert rates[:11] == sorted(rates[:11])
    assert rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.0)
