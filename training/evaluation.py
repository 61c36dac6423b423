"""Measures of a classifier, each with its source, over plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import norm, rankdata
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

from training.samples import Sample

Array = np.ndarray[Any, Any]

# Groups of people whose numbers are also told in a sentence.
DARK_SKIN, SKIN_NOT_RECORDED = "Fitzpatrick V–VI", "skin type not recorded"

# Groups of people by age, in years: from the first number on, below the second.
AGE_GROUPS = {"under 40 years": (0.0, 40.0), "40 to 59 years": (40.0, 60.0), "60 years and over": (60.0, np.inf)}

# An age that somebody can have, in years; sources write others, such as -1, for what they do not know.
_YOUNGEST, _OLDEST = 0.0, 120.0

# Fitzpatrick skin types, as sources write them: "3", "3.0" or "III". Some have -1 for what they do not know.
_SKIN_TYPES = {name: float(i) for i, name in enumerate(("I", "II", "III", "IV", "V", "VI"), start=1)}

# Bins of equal width for calibration (Guo et al. 2017).
_CALIBRATION_BINS = 15


def auc_with_interval(
    score: Array, malignant: Array, groups: Array | None = None, level: float = 0.95
) -> tuple[float, float, float]:
    """Return the AUC and its interval by DeLong's method (DeLong et al. 1988; ranks after Sun & Xu 2014).

    Images of one lesion or patient are answered alike, and are fewer than they seem: what DeLong's method takes from
    each image is summed over its cluster first (Obuchowski, "Nonparametric analysis of clustered ROC curve data",
    1997).

    Args:
        score: larger means more suspicious, ``[n]``.
        malignant: bool ``[n]`` with both kinds present.
        groups: cluster number per image, ``[n]``; ``None`` takes every image for a cluster of its own.
        level: confidence, 0–1.
    """
    auc, influence = _auc_and_influence(score, malignant)
    reach = _reach(influence, malignant, groups, level)
    return auc, max(auc - reach, 0.0), min(auc + reach, 1.0)


def auc_gain(
    score: Array, before: Array, malignant: Array, groups: Array | None = None, level: float = 0.95
) -> tuple[float, float, float]:
    """Return by how much the AUC of ``score`` is above that of ``before`` on the same images, and its interval.

    DeLong's method for correlated curves (DeLong et al. 1988), with clusters as in :func:`auc_with_interval`: both
    scores mostly err on the same images, so their difference is known better than either AUC.

    Args:
        score: larger means more suspicious, ``[n]``.
        before: the other score of the same images, ``[n]``.
        malignant: bool ``[n]`` with both kinds present.
        groups: cluster number per image, ``[n]``; ``None`` takes every image for a cluster of its own.
        level: confidence, 0–1.
    """
    auc, influence = _auc_and_influence(score, malignant)
    auc_before, influence_before = _auc_and_influence(before, malignant)
    reach = _reach(influence - influence_before, malignant, groups, level)
    gain = auc - auc_before
    return gain, gain - reach, gain + reach


def _auc_and_influence(score: Array, malignant: Array) -> tuple[float, Array]:
    """Return the AUC and how far each image pulls it from where it is, ``[n]``: DeLong's components, centred."""
    positive, negative = score[malignant], score[~malignant]
    m, n = len(positive), len(negative)
    if not m or not n:
        raise ValueError("AUC needs malignant and benign images")
    ranks = rankdata(np.concatenate([positive, negative]))
    auc = (ranks[:m].sum() - m * (m + 1) / 2) / (m * n)
    influence = np.empty(m + n)
    influence[malignant] = ((ranks[:m] - rankdata(positive)) / n - auc) / m
    influence[~malignant] = (1.0 - (ranks[m:] - rankdata(negative)) / m - auc) / n
    return float(auc), influence


def _reach(influence: Array, malignant: Array, groups: Array | None, level: float) -> float:
    """Return half the width of the interval that images' influences, summed over their clusters, leave."""
    clusters, cluster = np.unique(np.arange(len(influence)) if groups is None else groups, return_inverse=True)
    above, below = (np.bincount(cluster[k], influence[k], minlength=len(clusters)) for k in (malignant, ~malignant))
    variance = float(
        _unbiased(len(np.unique(cluster[malignant]))) * (above @ above)
        + _unbiased(len(np.unique(cluster[~malignant]))) * (below @ below)
        + _unbiased(len(clusters)) * 2 * (above @ below)
    )
    return float(norm.ppf(0.5 + level / 2) * np.sqrt(max(variance, 0.0)))


def _unbiased(clusters: int) -> float:
    """Factor that makes a sum of squared deviations of so many clusters unbiased; one alone deviates by nothing."""
    return clusters / max(clusters - 1, 1)


def specificity_at(score: Array, malignant: Array, sensitivity: float) -> float:
    """Return the share of benign below the threshold that ``sensitivity`` of the malignant reach."""
    ordered = np.sort(score[malignant])[::-1]
    threshold = ordered[int(np.ceil(sensitivity * len(ordered))) - 1]
    return float((score[~malignant] < threshold).mean())


def expected_calibration_error(probability: Array, malignant: Array, bins: int = _CALIBRATION_BINS) -> float:
    """Return the ECE: mean distance of probability and frequency over bins, weighted by their size."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    error = 0.0
    for i in range(bins):
        inside = index == i
        if inside.any():
            error += inside.mean() * abs(probability[inside].mean() - malignant[inside].mean())
    return float(error)


def reliability(probability: Array, malignant: Array, bins: int = 10) -> list[dict[str, float]]:
    """Return, per bin of equal width that holds images: their number, mean probability and share of malignant."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    return [
        {
            "images": int((index == i).sum()),
            "probability": float(probability[index == i].mean()),
            "malignant": float(malignant[index == i].mean()),
        }
        for i in range(bins)
        if (index == i).any()
    ]


def ages(samples: Sequence[Sample]) -> Array:
    """Return the age of each sample's person in years, float ``[n]``, 0–120; NaN where the source does not tell one."""
    written = np.array([_number(sample.age) for sample in samples])
    return np.where((written >= _YOUNGEST) & (written <= _OLDEST), written, np.nan)


def people(samples: Sequence[Sample]) -> dict[str, Array]:
    """Return masks ``[n]`` of the samples by sex, age and Fitzpatrick skin type, where the source tells them."""
    years = ages(samples)
    sexes = np.array([sample.sex.strip().lower() for sample in samples])
    types = np.array([_skin_type(sample.fitzpatrick) for sample in samples])
    return {
        "women": np.isin(sexes, ("female", "f")),
        "men": np.isin(sexes, ("male", "m")),
        **{name: (years >= low) & (years < high) for name, (low, high) in AGE_GROUPS.items()},
        "Fitzpatrick I–II": types <= 2,
        "Fitzpatrick III–IV": (types >= 3) & (types <= 4),
        DARK_SKIN: types >= 5,
        SKIN_NOT_RECORDED: np.isnan(types),
    }


def _skin_type(text: str) -> float:
    written = text.strip().upper()
    number = _SKIN_TYPES.get(written, _number(written))
    return number if number in _SKIN_TYPES.values() else float("nan")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def binary_measures(probability: Array, malignant: Array, groups: Array, threshold: float = 0.5) -> dict[str, float]:
    """Return accuracy, weighted precision, recall and F1 at a threshold, AUC with interval, and calibration."""
    called = probability >= threshold
    precision, recall, f1, _ = precision_recall_fscore_support(malignant, called, average="weighted", zero_division=0)
    auc, low, high = auc_with_interval(probability, malignant, groups)
    return {
        "images": len(malignant),
        "malignant": int(malignant.sum()),
        "auc": auc,
        "auc_low": low,
        "auc_high": high,
        "accuracy": float((called == malignant).mean()),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "specificity_at_90": specificity_at(probability, malignant, 0.90),
        "specificity_at_95": specificity_at(probability, malignant, 0.95),
        "ece": expected_calibration_error(probability, malignant),
    }


def class_measures(class_probability: Array, allowed: Array) -> dict[str, float]:
    """Return accuracy and balanced accuracy of the seven diagnoses, over images whose diagnosis is known."""
    certain = allowed.sum(axis=1) == 1
    truth, called = allowed[certain].argmax(axis=1), class_probability[certain].argmax(axis=1)
    return {
        "images": int(certain.sum()),
        "accuracy": float((truth == called).mean()),
        "balanced_accuracy": float(balanced_accuracy_score(truth, called)),
    }


def flip_share(probabilities: Array, threshold: float) -> float:
    """Return the share of images whose decision differs between variants, ``[variants,n]`` probabilities."""
    called = probabilities >= threshold
    return float((called.any(axis=0) & ~called.all(axis=0)).mean())
