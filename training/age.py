"""What the age of a person adds to the stack: the same picture is likelier malignant on somebody older.

The stack stays as it is; beside its malignant logit stands the age in one more logistic regression, fitted to images
that no network has seen. That is how a model in use takes a new predictor (recalibration and extension: Steyerberg et
al., "Validation and updating of predictive logistic regression models", 2004). Who does not tell an age is answered
by the stack alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from services.stacker.age import MIDDLE_AGE_YEARS, AgeRegression
from training.stacking import FOLDS, Stack, can_be_cross_validated, malignant_logits

Array = np.ndarray[Any, Any]

# Clusters of malignant and of benign images with a known age that it takes: ten for each of the two coefficients
# (Peduzzi et al., "A simulation study of the number of events per variable in logistic regression analysis", 1996).
_LEAST_OF_A_KIND = 20

# Percentiles of the known ages between which a line is drawn, for beyond hardly anybody was: see AgeRegression for what
# becomes of them. Of children no malignant image may be known at all.
_LIMITS = (5, 95)


def stack_logit(stack: Stack, class_logits: Array) -> Array:
    """Return the stack's malignant logits, class logits ``[k,n,7]`` or ``[turns,k,n,7]`` → ``[n]``.

    Its probability is their sigmoid; where that rounds to 1, the logit is still a number.
    """
    return np.asarray(malignant_logits(class_logits) @ stack.malignant + stack.malignant_intercept)


def fit_age(stack_logit: Array, age_years: Array, malignant: Array, groups: Array) -> AgeRegression | None:
    """Fit the age beside the stack's logit on images that no network was trained on.

    Args:
        stack_logit: the stack's malignant logits, ``[n]``.
        age_years: ages in years, 0–120, ``[n]``; NaN where not known, and such images are left out.
        malignant: bool ``[n]``.
        groups: cluster number per image, ``[n]``.

    Returns:
        The term, or ``None`` where ages are known of too few lesions or patients, or say nothing: where they lower the
        log loss, cross-validated by cluster, of the same regression without them by less than the standard error of
        that gain (Breiman et al., "Classification and Regression Trees", 1984). ``None`` also where it would turn the
        stack's answer upside down: its ``scale`` is above 0.
    """
    known = ~np.isnan(age_years)
    if not known.any():
        return None
    from_years, to_years = (round(float(limit)) for limit in np.percentile(age_years[known], _LIMITS))
    # As it will be answered: the younger by the stack alone, the older as of the oldest.
    counts = age_years >= from_years
    labels, clusters = malignant[counts], groups[counts]
    if any(len(np.unique(clusters[kind])) < _LEAST_OF_A_KIND for kind in (labels, ~labels)):
        return None
    if from_years == to_years or not can_be_cross_validated(labels, clusters):
        return None
    decades = (np.minimum(age_years[counts], to_years) - MIDDLE_AGE_YEARS) / 10
    features = np.column_stack([stack_logit[counts], decades])
    gain = _losses(features[:, :1], labels, clusters) - _losses(features, labels, clusters)
    if gain.mean() <= _standard_error(gain, clusters):
        return None
    fitted = LogisticRegression().fit(features, labels)
    scale, per_decade = (float(coefficient) for coefficient in fitted.coef_[0])
    if scale <= 0:
        return None
    return AgeRegression(
        scale=scale,
        per_decade=per_decade,
        intercept=float(fitted.intercept_[0]),
        from_years=from_years,
        to_years=to_years,
    )


def _losses(features: Array, labels: Array, clusters: Array) -> Array:
    """Return the log loss ``[n]`` of each image, answered by a regression that saw nothing of its cluster."""
    answered = cross_val_predict(
        LogisticRegression(), features, labels, groups=clusters, cv=GroupKFold(FOLDS), method="predict_log_proba"
    )
    return np.asarray(-answered[np.arange(len(labels)), labels.astype(int)])


def _standard_error(values: Array, clusters: Array) -> float:
    """Return that of the mean of ``values``, of which those of one cluster are not independent."""
    _, cluster = np.unique(clusters, return_inverse=True)
    return float(np.linalg.norm(np.bincount(cluster, values - values.mean()))) / len(values)


def age_json(term: AgeRegression | None, measured_on: str) -> dict[str, Any] | None:
    """Return what ``stack.json`` says under ``age``; ``measured_on`` names the images it was fitted to."""
    if term is None:
        return None
    rounded = {name: round(value, 6) for name, value in term.model_dump().items()}
    return {**rounded, "measured_on": measured_on}


def age_from(data: Mapping[str, Any] | None) -> AgeRegression | None:
    """Rebuild the term from what ``stack.json`` says under ``age``, ``None`` where it says nothing."""
    return None if data is None else AgeRegression.model_validate(data)
