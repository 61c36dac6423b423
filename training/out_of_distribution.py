"""Fit what tells lesions from other pictures, on one network's embedding; ``services.stacker`` evaluates it.

Outlier exposure (Hendrycks et al. 2019): a logistic regression between lesions and a folder of anything else. A score
fitted on lesions alone (Mahalanobis in the principal subspace of the last layer) let a third of scikit-image's
photographs pass, because a fine-tuned network's last layer has unlearnt what its first ones see.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from services.stacker.out_of_distribution import familiarity_from

Array = np.ndarray[Any, Any]

# Share of the lesions that set the threshold that may lie beyond it.
REFUSED_SHARE = 0.01

# scikit-learn's inverse strength of regularisation: of 0.001 to 0.1 the weakest left most room on both sides of the
# threshold, between real samples of lesions and the pictures that look most like one (a cat's fur).
_STRENGTH = 0.1

# Principal components kept as the reference for drift: most of the variance, and few enough for a stack.json of 0.3 MB.
COMPONENTS = 16

# Digits kept of a unit vector's entries, which are about 0.03.
_UNIT_DIGITS = 5

# Digits kept of a weight; embeddings are of the order of one, and there are some 1,500 of them.
_DIGITS = 6


def fit_familiarity(
    network: str, lesions: Array, others: Array, validation: Array, components: int = COMPONENTS
) -> dict[str, Any]:
    """Return ``stack.json``'s ``out_of_distribution`` for a network's embeddings.

    Args:
        network: whose embeddings they are.
        lesions: ``[n,d]`` of lesions to learn from.
        others: ``[m,d]`` of pictures of anything else.
        validation: ``[k,d]`` of other lesions, which set the threshold.
        components: dimensions of the reference for drift, at most the rank of the lesions' embeddings.
    """
    unit = lesions / np.linalg.norm(lesions, axis=1, keepdims=True)
    _, singular, axes = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    kept = min(components, len(singular))
    scaler = StandardScaler().fit(np.concatenate([lesions, others]))
    features = scaler.transform(np.concatenate([lesions, others]))
    strange = np.repeat([0, 1], [len(lesions), len(others)])
    model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=2000).fit(features, strange)
    weights = model.coef_[0] / scaler.scale_
    fitted: dict[str, Any] = {
        "method": "outlier_exposure",
        "network": network,
        "weights": np.round(weights, _DIGITS).tolist(),
        "intercept": round(float(model.intercept_[0] - weights @ scaler.mean_), _DIGITS),
        "threshold": 0.0,
        "mean": np.round(unit.mean(axis=0).astype(float), _UNIT_DIGITS).tolist(),
        "components": np.round(axes[:kept].astype(float), _UNIT_DIGITS).tolist(),
        "deviations": [float(f"{d:.6g}") for d in singular[:kept] / np.sqrt(max(len(unit) - 1, 1))],
        "refused_validation_share": REFUSED_SHARE,
        "other_pictures": len(others),
    }
    # The service's own scoring, on the rounded numbers that it will read.
    familiarity = familiarity_from(fitted)
    assert familiarity is not None
    fitted["threshold"] = round(float(np.quantile(familiarity.score(validation), 1.0 - REFUSED_SHARE)), _DIGITS)
    return fitted
