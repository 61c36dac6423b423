"""Recipes are data, and a typing error in them is refused."""

import json

import pytest

from training.commands import NETWORKS
from training.recipe import Phase, read_recipes, recipe_from


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
    recipe = recipe_from({"network": "mobilenet", "phases": [{"size_px": 96, "share": 1.0}], "minutes": 2})
    assert recipe.phases == (Phase(96, 1.0),)
    assert recipe_from(json.loads(json.dumps(recipe.as_json()))) == recipe


def test_an_unknown_key_is_refused():
    with pytest.raises(ValueError, match="learning_rat"):
        recipe_from({"network": "mobilenet", "learning_rat": 1e-3})
