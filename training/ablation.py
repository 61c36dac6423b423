"""What each part of a recipe is worth: the same training again and again, with one part switched off at a time.

All are short and measured on the validation side, so the table ranks parts; it does not say how good a network can be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from services.stacker.turns import pose_of, turned
from training.evaluation import auc_with_interval, flip_share
from training.finetuning import TrainingData, predict
from training.networks import assign_weights, build_network, load_weights
from training.recipe import Recipe
from training.stacking import SENSITIVITY_HIGH, malignant_logits, threshold_at_sensitivity

Array = np.ndarray[Any, Any]

EVERYTHING = "everything"
#: The same with other random numbers: what is no larger than its difference says nothing.
OTHER_SEED = "everything, another seed"

#: Resamples of a bootstrap interval (Efron & Tibshirani 1993 take 1,000 as enough for one).
_RESAMPLES = 1000

#: Validation images that are looked at in all eight turns.
_TURNED_IMAGES = 200


@dataclass(frozen=True, slots=True)
class Worth:
    """What one training reached on the validation side, and how that differs from the one with everything.

    ``flips`` is the share of images whose decision at 90 % sensitivity is not the same in all eight turns.
    """

    name: str
    auc: tuple[float, float, float]
    difference: tuple[float, float, float]
    flips: float


def variants(recipe: Recipe) -> dict[str, Recipe]:
    """Return the recipes to compare by name: with everything, with another seed, and without each part that is on."""
    found = {EVERYTHING: recipe, OTHER_SEED: dataclasses.replace(recipe, seed=recipe.seed + 1)}
    for group in ("augmentation", "balance"):
        parts = getattr(recipe, group)
        for part in fields(parts):
            if getattr(parts, part.name):
                without = dataclasses.replace(parts, **{part.name: False})
                change: dict[str, Any] = {group: without}
                found[f"without {group}: {part.name}"] = dataclasses.replace(recipe, **change)
    for setting in ("label_smoothing", "binary_weight", "average_momentum", "dropout"):
        if getattr(recipe, setting):
            change = {setting: 0.0}
            found[f"without {setting.replace('_', ' ')}"] = dataclasses.replace(recipe, **change)
    return found


def answers(recipe: Recipe, weights: Path, data: TrainingData) -> tuple[Array, Array]:
    """Return a trained network's malignant logits of the validation side ``[n]``, and of a part in turns ``[8,m]``."""
    size = recipe.phases[-1].size_px
    network = build_network(recipe.network, size)
    assign_weights(network, load_weights(weights))

    def logits(pixels: Array, positions: Sequence[int] | Array) -> Array:
        return malignant_logits(predict(network.classifier, pixels, positions, size, recipe.batch)[None])[:, 0]

    some = data.validation[:: max(len(data.validation) // _TURNED_IMAGES, 1)]
    views = np.stack([turned(square, 8, pose_of(square)) for square in data.pixels[some]], axis=1)
    return logits(data.pixels, data.validation), np.array([logits(view, np.arange(len(some))) for view in views])


def worth(
    name: str, answered: tuple[Array, Array], everything: Array, malignant: Array, groups: Array, *, seed: int
) -> Worth:
    """Compare one training's logits with those of the training with everything on the same images.

    Whole clusters (``groups``, a number per image) are drawn for the interval: images of one lesion or patient are
    answered alike.
    """
    logits, views = answered
    clusters, cluster = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    differences = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(len(clusters), size=len(clusters))
        times = np.bincount(drawn, minlength=len(clusters))[cluster]
        if 0 < times[malignant].sum() < times.sum():
            of_this, of_all = (roc_auc_score(malignant, score, sample_weight=times) for score in (logits, everything))
            differences.append(of_this - of_all)
    low, high = np.quantile(differences, (0.025, 0.975))
    threshold = threshold_at_sensitivity(logits, malignant, SENSITIVITY_HIGH)
    auc = auc_with_interval(logits, malignant, groups)
    return Worth(
        name=name,
        auc=auc,
        difference=(auc[0] - auc_with_interval(everything, malignant)[0], float(low), float(high)),
        flips=flip_share(views, threshold),
    )


def compared(
    recipes: Mapping[str, Recipe], files: Mapping[str, Path], data: TrainingData, groups: Array
) -> list[Worth]:
    """Return the worth of every trained recipe, the one with everything first; ``groups`` is the cluster per image."""
    malignant = data.malignant[data.validation]
    answered = {name: answers(recipe, files[name], data) for name, recipe in recipes.items()}
    everything, _ = answered[EVERYTHING]
    of_validation = groups[data.validation]
    return [
        worth(name, found, everything, malignant, of_validation, seed=recipes[name].seed)
        for name, found in answered.items()
    ]


def markdown(rows: Sequence[Worth], recipe: Recipe, images: int) -> str:
    """Return the table as Markdown."""
    size = recipe.phases[-1].size_px
    seen = f"{recipe.minutes:g} minutes" if recipe.minutes else f"{recipe.epochs * recipe.epoch_images:.0f} pictures"
    lines = [
        "# What each part of the recipe is worth",
        "",
        (
            f"Written by `lesionlens ablate`: {recipe.network} at {size} pixels, {seen} each time, measured on the"
            f" {images} images of the validation side. Differences are to the first row, with the interval of a paired"
            " bootstrap of lesions and patients; what is no larger than that of another seed says nothing. Flips:"
            " decisions at 90 % sensitivity that are not the same in all eight turns."
        ),
        "",
        "| trained with | AUC | difference | flips % |",
        "|---|---|---|---|",
    ]
    for row in rows:
        auc, low, high = row.auc
        change = "" if row.name == EVERYTHING else "{:+.3f} ({:+.3f} to {:+.3f})".format(*row.difference)
        lines.append(f"| {row.name} | {auc:.3f} ({low:.3f}–{high:.3f}) | {change} | {100 * row.flips:.1f} |")
    return "\n".join(lines) + "\n"
