"""Recipes are data, and a typing error in them is refused."""

import json

import pytest

from services.analysis.results import NETWORKS
from training.recipe import Phase, Recipe, read_recipes, recipe_from
from training.sampling import Balance


def test_the_published_recipes_train_all_four_networks_and_teachers_first():
    from training.commands import _RECIPES

    recipes = read_recipes(_RECIPES)
    trained: list[str] = []
    for recipe in recipes:
        assert set(recipe.teachers) <= set(trained)
        assert not recipe.phases or sum(phase.share for phase in recipe.phases) == pytest.approx(1)
        assert recipe.phases or recipe.refit_images
        trained.append(recipe.network)
    assert sorted(trained) == sorted(NETWORKS)


def test_a_recipe_survives_json():
    data = {
        "network": "mobilenet",
        "phases": [{"size_px": 96, "share": 1.0}],
        "minutes": 2,
        "balance": {"sides": False},
    }
    recipe = recipe_from(data)
    assert recipe.phases == (Phase(96, 1.0),)
    assert recipe.balance == Balance(sides=False)
    assert recipe_from(json.loads(json.dumps(recipe.as_json()))) == recipe


def test_an_unknown_key_is_refused():
    with pytest.raises(ValueError, match="learning_rat"):
        recipe_from({"network": "mobilenet", "learning_rat": 1e-3})


def test_the_progress_bar_ends_where_the_phase_does():
    recipe = Recipe("mobilenet", epochs=2, epoch_images=1000, batch=32)
    phase = Phase(160, 0.5)

    assert recipe.steps_left(phase, 0) == 32  # 1,000 images
    assert recipe.steps_left(phase, 960) == 2
    assert recipe.steps_left(phase, 1024) == 1, "a phase that is resumed at its very end still ends by itself"


def test_a_budget_of_time_has_no_number_of_steps():
    assert Recipe("mobilenet", minutes=5).steps_left(Phase(160, 1.0), 0) is None


def test_the_learning_rate_warms_up_and_falls_to_nothing():
    recipe = Recipe("mobilenet", warm_up=0.1)
    rates = [recipe.rate_factor(spent / 100) for spent in range(101)]

    assert rates[:11] == sorted(rates[:11])
    assert rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.0)


def test_a_batch_that_cannot_hold_every_picture_twice_is_refused():
    with pytest.raises(ValueError, match="33"):
        recipe_from({"network": "mobilenet", "agreement_weight": 1.0, "batch": 33})
    assert recipe_from({"network": "mobilenet", "batch": 33}).batch == 33
