"""Fit what stands over the four networks: calibrated malignancy, diagnosis classes, bands; all as plain numbers.

Everything is fitted on the validation side, which no network has seen; regularisation is chosen by cross-validation
grouped by lesion and patient inside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from services.analysis.errors import LesionLensError
from services.analysis.results import NETWORKS
from training.vocabulary import BENIGN_INDICES, CLASSES, MALIGNANT_INDICES

Array = np.ndarray[Any, Any]

# Strengths of regularisation tried, as scikit-learn's inverse strength C.
_BINARY_STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_CLASS_STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)

# Of every cross-validation here.
FOLDS = 5

# Dimensions of class logits that have an axis of turns in front.
_WITH_TURNS = 4

# Declared operating points: at most 5 % of the malignant lesions below the low band, at most 10 % below the high one.
SENSITIVITY_LOW = 0.95
SENSITIVITY_HIGH = 0.90

# How sure the sensitivity of the low band must be for lesions to come: “few signs” is the answer that harms when wrong.
_CONFIDENCE_LOW = 0.95


class TooFewForAStackError(LesionLensError):
    """The validation side has too few lesions of either kind, or of different diagnoses, to fit a stack to."""

    problem = "too-few-for-a-stack"
    title = "The images are too few to fit a stack to"
    advice = (
        "Add images of both kinds: a tenth of all goes to the validation side, and malignant as well as benign there"
        f" should come from {2 * FOLDS} lesions and patients or more."
    )


@dataclass(frozen=True, slots=True)
class Stack:
    """Coefficients over the networks' answers, in network order.

    ``malignant`` ``[k]`` on the malignant logits; ``classes`` ``[7, 7k]`` on the concatenated class log-softmax.
    Class logits are ``[k,n,7]`` everywhere, or ``[turns,k,n,7]``: turns are averaged as the stacker averages them.
    """

    malignant: Array
    malignant_intercept: float
    classes: Array
    class_intercepts: Array
    low_below: float
    high_from: float

    def probability(self, class_logits: Array) -> Array:
        """Return calibrated malignant probabilities ``[n]``."""
        score = malignant_logits(class_logits) @ self.malignant + self.malignant_intercept
        return np.asarray(1.0 / (1.0 + np.exp(-score)))

    def class_probabilities(self, class_logits: Array) -> Array:
        """Return diagnosis probabilities ``[n,7]``."""
        return np.asarray(softmax(class_features(class_logits) @ self.classes.T + self.class_intercepts, axis=1))


def malignant_logits(class_logits: Array) -> Array:
    """Return ``logsumexp(malignant) − logsumexp(benign)`` per network, ``[k,n,7]`` or ``[turns,k,n,7]`` → ``[n,k]``.

    Turns are averaged in this logit.
    """
    malignant = logsumexp(class_logits[..., list(MALIGNANT_INDICES)], axis=-1)
    benign = logsumexp(class_logits[..., list(BENIGN_INDICES)], axis=-1)
    logits = malignant - benign
    return np.asarray((logits.mean(axis=0) if logits.ndim == _WITH_TURNS - 1 else logits).T)


def class_features(class_logits: Array) -> Array:
    """Return the class log-softmax of all networks side by side, ``[k,n,7]`` or ``[turns,k,n,7]`` → ``[n,7k]``.

    Turns are averaged before the softmax.
    """
    averaged = class_logits.mean(axis=0) if class_logits.ndim == _WITH_TURNS else class_logits
    return np.concatenate(list(log_softmax(averaged, axis=-1)), axis=1)


def _best_strength(
    features: Array, labels: Array, groups: Array, strengths: Sequence[float]
) -> tuple[float, dict[float, float]]:
    losses: dict[float, float] = {}
    classes = np.unique(labels)
    for strength in strengths:
        folds = []
        for fit, held in GroupKFold(FOLDS).split(features, labels, groups):
            model = LogisticRegression(C=strength, max_iter=2000).fit(features[fit], labels[fit])
            answered = np.full((len(held), len(classes)), 1e-6)
            answered[:, np.searchsorted(classes, model.classes_)] = model.predict_proba(features[held])
            folds.append(log_loss(labels[held], answered / answered.sum(axis=1, keepdims=True), labels=classes))
        losses[strength] = float(np.mean(folds))
    return min(losses, key=lambda s: losses[s]), losses


def threshold_at_sensitivity(probability: Array, malignant: Array, sensitivity: float) -> float:
    """Return the largest threshold at which at least ``sensitivity`` of the malignant reach it."""
    ordered = np.sort(probability[malignant])[::-1]
    needed = int(np.ceil(sensitivity * len(ordered)))
    return float(ordered[needed - 1])


def assured_threshold(
    probability: Array, malignant: Array, groups: Array, sensitivity: float, confidence: float
) -> float:
    """Return the largest threshold that promises ``sensitivity`` for other lesions with ``confidence``.

    One-sided tolerance limit (Wilks, "Determination of sample sizes for setting tolerance limits", 1941): so few of the
    malignant lie below that, were more than 1 − ``sensitivity`` of all there, one would see so few with a probability
    of at most 1 − ``confidence``. With too few malignant to promise anything, none lies below. Images of one cluster
    are not independent, as the limit wants them: each cluster counts once, by its lowest malignant image.
    """
    clusters, cluster = np.unique(groups[malignant], return_inverse=True)
    lowest = np.full(len(clusters), np.inf)
    np.minimum.at(lowest, cluster, probability[malignant])
    ordered = np.sort(lowest)
    below = int(
        np.searchsorted(binom.cdf(np.arange(len(ordered)), len(ordered), 1 - sensitivity), 1 - confidence, "right")
    )
    return float(ordered[max(below - 1, 0)])


def fit_stack(class_logits: Array, allowed: Array, groups: Array) -> tuple[Stack, dict[str, Any]]:
    """Fit the stack on class logits ``[k,n,7]`` of images that no network was trained on.

    Args:
        class_logits: of the networks in order, with or without turns.
        allowed: mask of permitted diagnoses ``[n,7]``; rows with more than one count as benign of unknown diagnosis.
        groups: cluster number per image.

    Returns:
        The stack and a record of what was chosen.
    """
    # A few thousand rows of 28: more threads would only wait for each other.
    with threadpool_limits(limits=1):
        return _fit(class_logits, allowed, groups)


def refuse_too_few(allowed: Array, groups: Array) -> None:
    """Refuse what :func:`fit_stack` cannot be fitted to; arguments as there.

    Raises:
        TooFewForAStackError: a fold of the cross-validation would be fitted to one kind or one diagnosis alone.
    """
    malignant = allowed[:, list(MALIGNANT_INDICES)].max(axis=1) > 0
    certain = allowed.sum(axis=1) == 1
    if not (
        can_be_cross_validated(malignant, groups)
        and can_be_cross_validated(allowed[certain].argmax(axis=1), groups[certain])
    ):
        clusters = [len(np.unique(groups[kind])) for kind in (malignant, ~malignant)]
        raise TooFewForAStackError(
            f"no stack can be fitted to a validation side with {clusters[0]} malignant and {clusters[1]} benign lesions"
            f" or patients, {len(np.unique(groups[certain]))} of them with a known diagnosis"
        )


def can_be_cross_validated(labels: Array, groups: Array) -> bool:
    """Whether no fold would be fitted to one label alone; labels ``[n]``, cluster numbers ``[n]``."""
    if len(np.unique(groups)) < FOLDS:
        return False
    return all(len(np.unique(labels[fit])) > 1 for fit, _ in GroupKFold(FOLDS).split(labels, labels, groups))


def _fit(class_logits: Array, allowed: Array, groups: Array) -> tuple[Stack, dict[str, Any]]:
    malignant = allowed[:, list(MALIGNANT_INDICES)].max(axis=1) > 0
    scores = malignant_logits(class_logits)
    strength, losses = _best_strength(scores, malignant.astype(int), groups, _BINARY_STRENGTHS)
    binary = LogisticRegression(C=strength, max_iter=2000).fit(scores, malignant.astype(int))

    certain = allowed.sum(axis=1) == 1
    features = class_features(class_logits)[certain]
    labels = allowed[certain].argmax(axis=1)
    class_strength, class_losses = _best_strength(features, labels, groups[certain], _CLASS_STRENGTHS)
    multinomial = LogisticRegression(C=class_strength, max_iter=5000).fit(features, labels)
    rows, of_each = multinomial.coef_, multinomial.intercept_
    if len(rows) == 1:
        # Of two diagnoses scikit-learn fits the second one's logit; the softmax of its halves is that sigmoid.
        rows, of_each = (np.concatenate([-half, half]) for half in (rows / 2, of_each / 2))
    coefficients = np.zeros((len(CLASSES), features.shape[1]))
    intercepts = np.full(len(CLASSES), float(of_each.min()) - 5.0)
    coefficients[multinomial.classes_] = rows
    intercepts[multinomial.classes_] = of_each

    stack = Stack(
        malignant=binary.coef_[0],
        malignant_intercept=float(binary.intercept_[0]),
        classes=coefficients,
        class_intercepts=intercepts,
        low_below=0.0,
        high_from=1.0,
    )
    probability = stack.probability(class_logits)
    stack = Stack(
        malignant=stack.malignant,
        malignant_intercept=stack.malignant_intercept,
        classes=stack.classes,
        class_intercepts=stack.class_intercepts,
        low_below=assured_threshold(probability, malignant, groups, SENSITIVITY_LOW, _CONFIDENCE_LOW),
        high_from=threshold_at_sensitivity(probability, malignant, SENSITIVITY_HIGH),
    )
    record = {"malignant_C": strength, "malignant_log_loss": losses, "classes_C": class_strength}
    record["classes_log_loss"] = class_losses
    return stack, record


def stack_from(data: Mapping[str, Any]) -> Stack:
    """Rebuild a stack from ``stack.json``'s content."""
    return Stack(
        malignant=np.array(data["malignant"]["coefficients"]),
        malignant_intercept=float(data["malignant"]["intercept"]),
        classes=np.array(data["classes"]["coefficients"]),
        class_intercepts=np.array(data["classes"]["intercepts"]),
        low_below=float(data["bands"]["low_below"]),
        high_from=float(data["bands"]["high_from"]),
    )


def turns_of(content: Mapping[str, Any]) -> dict[str, int]:
    """Return in how many turns each network of a ``stack.json`` looks, in network order."""
    usual = content.get("test_time_augmentation", 1)
    return {str(entry["name"]): int(entry.get("turns") or usual) for entry in content["networks"]}


def turns_to_fit(
    published: Mapping[str, Any], usual: int | None, of_one: Mapping[str, int]
) -> tuple[int, dict[str, int]]:
    """Return in how many turns networks usually look, and in how many each does: as asked, or else as published.

    Args:
        published: content of ``stack.json``, empty without one: then each looks once.
        usual: asked for all networks, also those that stay as they are.
        of_one: asked for a network by name.
    """
    before = turns_of(published) if published and not usual else {}
    usual = usual or int(published.get("test_time_augmentation", 1))
    return usual, {name: of_one.get(name) or before.get(name, usual) for name in NETWORKS}


def stack_json(
    stack: Stack,
    networks: Sequence[Mapping[str, Any]],
    *,
    version: str,
    measured_on: str,
    test_time_augmentation: int,
    out_of_distribution: Mapping[str, Any] | None,
    metrics: Mapping[str, Any],
    age: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the content of ``stack.json``, see ``services/stacker``; ``age`` as of :func:`training.age.age_json`."""
    return {
        "version": version,
        "networks": [dict(n) for n in networks],
        "malignant": {
            "coefficients": [round(float(c), 6) for c in stack.malignant],
            "intercept": round(stack.malignant_intercept, 6),
        },
        "classes": {
            "names": list(CLASSES),
            "coefficients": [[round(float(c), 6) for c in row] for row in stack.classes],
            "intercepts": [round(float(c), 6) for c in stack.class_intercepts],
        },
        "bands": {
            "low_below": round(stack.low_below, 6),
            "high_from": round(max(stack.high_from, stack.low_below), 6),
            "sensitivity_low": SENSITIVITY_LOW,
            "sensitivity_high": SENSITIVITY_HIGH,
            "measured_on": measured_on,
        },
        # Nobody is asked for an age that would change nothing.
        **({"age": dict(age)} if age else {}),
        "test_time_augmentation": test_time_augmentation,
        "out_of_distribution": dict(out_of_distribution) if out_of_distribution else None,
        "metrics": dict(metrics),
    }
