"""What the age of a person adds to the stack: the same picture is likelier malignant on somebody older.

The stack stays as it is; beside its malignant logit stands the age in one more logistic regression, fitted to images
that no network has seen. That is how a model in use takes a new predictor (recalibration and extension: Steyerberg et
al., "Validation and updating of predictive logistic regression models", 2004). Who does not tell an age is answered
by the stack alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from training.stacking import FOLDS, Stack, can_be_cross_validated, malignant_logits

Array = np.ndarray[Any, Any]

# Clusters of malignant and of benign images with a known age that it takes: ten for each of the two coefficients
# (Peduzzi et al., "A simulation study of the number of events per variable in logistic regression analysis", 1996).
_LEAST_OF_A_KIND = 20

# Ages count in decades from this one, in years: the intercept is that of somebody in the middle.
_MIDDLE_AGE = 50.0

# Percentiles of the ages fitted to, beyond which somebody counts as being that old: a line is not drawn on to where
# hardly anybody was. Of children no malignant image may be known at all, and theirs are not to be answered lower still.
_LIMITS = (5, 95)


@dataclass(frozen=True, slots=True)
class AgeTerm:
    """How the age moves the stack's malignant logit.

    Attributes:
        scale: what the stack's logit counts beside an age.
        per_decade: added to the logit for every ten years above 50, or taken away below.
        intercept: added to every logit.
        from_years: whoever is younger counts as being so old.
        to_years: whoever is older counts as being so old.
    """

    scale: float
    per_decade: float
    intercept: float
    from_years: int
    to_years: int

    def logit(self, stack_logit: Array, age_years: Array) -> Array:
        """Return malignant logits with the age, ``[n]``.

        Args:
            stack_logit: the stack's malignant logits, ``[n]``.
            age_years: ages in years, ``[n]``; where one is NaN the stack's logit stays as it is.
        """
        decades = _decades(np.clip(age_years, self.from_years, self.to_years))
        with_age = self.scale * stack_logit + self.per_decade * decades + self.intercept
        return np.where(np.isnan(age_years), stack_logit, with_age)


def stack_logit(stack: Stack, class_logits: Array) -> Array:
    """Return the stack's malignant logits, class logits ``[k,n,7]`` or ``[turns,k,n,7]`` → ``[n]``.

    Its probability is their sigmoid; where that rounds to 1, the logit is still a number.
    """
    return np.asarray(malignant_logits(class_logits) @ stack.malignant + stack.malignant_intercept)


def fit_age(stack_logit: Array, age_years: Array, malignant: Array, groups: Array) -> AgeTerm | None:
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
    years, labels, clusters = age_years[known], malignant[known], groups[known]
    if any(len(np.unique(clusters[kind])) < _LEAST_OF_A_KIND for kind in (labels, ~labels)):
        return None
    from_years, to_years = (round(float(limit)) for limit in np.percentile(years, _LIMITS))
    if from_years == to_years or not can_be_cross_validated(labels, clusters):
        return None
    features = np.column_stack([stack_logit[known], _decades(years)])
    gain = _losses(features[:, :1], labels, clusters) - _losses(features, labels, clusters)
    if gain.mean() <= _standard_error(gain, clusters):
        return None
    fitted = LogisticRegression().fit(features, labels)
    scale, per_decade = (float(coefficient) for coefficient in fitted.coef_[0])
    if scale <= 0:
        return None
    return AgeTerm(scale, per_decade, float(fitted.intercept_[0]), from_years, to_years)


def _decades(age_years: Array) -> Array:
    return (age_years - _MIDDLE_AGE) / 10.0


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


def age_json(term: AgeTerm | None, measured_on: str) -> dict[str, Any] | None:
    """Return what ``stack.json`` says under ``age``; ``measured_on`` names the images it was fitted to."""
    if term is None:
        return None
    rounded = {name: round(value, 6) for name, value in asdict(term).items()}
    return {**rounded, "measured_on": measured_on}


def age_from(data: Mapping[str, Any] | None) -> AgeTerm | None:
    """Rebuild the term from what ``stack.json`` says under ``age``, ``None`` where it says nothing."""
    if data is None:
        return None
    return AgeTerm(
        scale=float(data["scale"]),
        per_decade=float(data["per_decade"]),
        intercept=float(data["intercept"]),
        from_years=int(data["from_years"]),
        to_years=int(data["to_years"]),
    )
