"""A table of what each part of a recipe is worth; needs Keras, and so a process of its own."""

import importlib.util
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed (requirements/training.txt)"
)


def run(script: str) -> None:
    subprocess.run([sys.executable, "-c", script], check=True, timeout=170)


def test_every_part_that_is_on_is_switched_off_once_and_nothing_else_changes():
    run("""
import dataclasses
from training.ablation import EVERYTHING, OTHER_SEED, variants
from training.augmentation import Augmentation
from training.recipe import Recipe
recipe = Recipe("mobilenet", augmentation=dataclasses.replace(Augmentation(), hair=False), dropout=0.0)
found = variants(recipe)
assert list(found)[:2] == [EVERYTHING, OTHER_SEED] and found[EVERYTHING] == recipe
assert found[OTHER_SEED].seed != recipe.seed
parts = {field.name for field in dataclasses.fields(Augmentation)} - {"hair"}
wanted = {f"without augmentation: {part}" for part in parts}
wanted |= {f"without balance: {part}" for part in ("sources", "sides", "diagnoses")}
wanted |= {"without label smoothing", "without binary weight", "without average momentum"}
assert set(found) - {EVERYTHING, OTHER_SEED} == wanted
without = found["without augmentation: crop"]
assert dataclasses.replace(without, augmentation=recipe.augmentation) == recipe
assert without.augmentation == dataclasses.replace(recipe.augmentation, crop=False)
""")


def test_a_difference_has_the_interval_of_the_same_images_and_flips_are_counted_at_the_working_point():
    run("""
import numpy as np
from training.ablation import worth
rng = np.random.default_rng(0)
malignant = np.arange(600) % 3 == 0
good = malignant + rng.normal(0, 0.6, 600)
worse = good + rng.normal(0, 1.0, 600)
still = np.tile(good[:100], (8, 1))
same = worth("same", (good, still), good, malignant, seed=1)
assert same.difference == (0.0, 0.0, 0.0) and same.flips == 0.0
less = worth("less", (worse, still), good, malignant, seed=1)
change, low, high = less.difference
assert low < change < high < 0 and abs(change - (less.auc[0] - same.auc[0])) < 1e-12
restless = still.copy()
restless[3, :10] += np.where(restless[3, :10] > 0, -100, 100)
assert worth("restless", (good, restless), good, malignant, seed=1).flips == 0.1
""")
