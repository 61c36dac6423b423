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
parts = {field.name for field in dataclasses.fields(Augmentation)} - {"hair", "surroundings"}
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
images = np.arange(600)
same = worth("same", (good, still), good, malignant, images, seed=1)
assert same.difference == (0.0, 0.0, 0.0) and same.flips == 0.0
less = worth("less", (worse, still), good, malignant, images, seed=1)
change, low, high = less.difference
assert low < change < high < 0 and abs(change - (less.auc[0] - same.auc[0])) < 1e-12
restless = still.copy()
restless[3, :10] += np.where(restless[3, :10] > 0, -100, 100)
assert worth("restless", (good, restless), good, malignant, images, seed=1).flips == 0.1
""")


def test_a_difference_between_the_same_lesions_seen_four_times_is_as_uncertain_as_seen_once():
    run("""
import numpy as np
from training import ablation
ablation._RESAMPLES = 200
rng = np.random.default_rng(0)
malignant = np.arange(300) % 3 == 0
good = malignant + rng.normal(0, 0.6, 300)
worse = good + rng.normal(0, 1.0, 300)
still = np.zeros((8, 1))
def compared(times, groups):
    scores = (np.tile(score, times) for score in (worse, good, malignant))
    logits, everything, kind = scores
    return ablation.worth("less", (logits, still), everything, kind, groups, seed=1)
lesions = np.arange(300)
once, again = compared(1, lesions), compared(4, np.tile(lesions, 4))
assert np.allclose(once.difference, again.difference) and np.allclose(once.auc, again.auc)
width = once.difference[2] - once.difference[1]
as_if_others = compared(4, np.arange(1200)).difference
assert as_if_others[2] - as_if_others[1] < 0.7 * width
""")
