"""Last-layer retraining: the head fitted to convergence on the embeddings of the finished backbone.

Gradient steps are spent on the backbone; the head, a convex problem, is then solved exactly and on whole squares at the
size that is served (Kirichenko et al. 2022, "Last Layer Re-Training Is Sufficient for Robustness to Spurious
Correlations"; the size mismatch between training and serving is what Touvron et al. 2019 mend the same way).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp
from sklearn.metrics import roc_auc_score

from training.vocabulary import BENIGN_INDICES, CLASSES, MALIGNANT_INDICES

Array = np.ndarray[Any, Any]

#: Strengths of the ridge that are tried, per standardised feature; the best on the validation side is kept.
STRENGTHS = (3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)

#: Steps of the solver; the loss changes in the fourth digit from there on.
_STEPS = 150


def refit_head(
    embeddings: Array,
    allowed: Array,
    weights: Array,
    strength: float,
    binary_weight: float = 1.0,
) -> tuple[Array, Array]:
    """Return kernel ``[d,7]`` and bias ``[7]`` that fit the embeddings best.

    The loss is that of :mod:`training.loss` without smoothing: marginal likelihood of the permitted diagnoses, and of
    the malignant or benign side with ``binary_weight``.

    Args:
        embeddings: pooled features, float ``[n,d]``.
        allowed: mask of permitted diagnoses, ``[n,7]``.
        weights: how much each image counts, ``[n]``.
        strength: of the ridge on the kernel over standardised features.
        binary_weight: weight of the side beside that of the diagnoses.
    """
    mean, deviation = embeddings.mean(axis=0), embeddings.std(axis=0) + 1e-6
    features = ((embeddings - mean) / deviation).astype(np.float64)
    share = (weights / weights.sum())[:, None]
    permitted = np.where(allowed > 0, 0.0, -np.inf)
    side = np.full_like(permitted, -np.inf)
    malignant = allowed[:, list(MALIGNANT_INDICES)].max(axis=1) > 0
    side[np.ix_(malignant, MALIGNANT_INDICES)] = 0.0
    side[np.ix_(~malignant, BENIGN_INDICES)] = 0.0
    width, classes = features.shape[1], len(CLASSES)

    def loss_and_gradient(flat: Array) -> tuple[float, Array]:
        kernel, bias = flat[: width * classes].reshape(width, classes), flat[width * classes :]
        log_share = log_softmax(features @ kernel + bias, axis=1)
        loss, slope = 0.5 * strength * float((kernel**2).sum()), np.zeros_like(log_share)
        for mask, factor in ((permitted, 1.0), (side, binary_weight)):
            inside = logsumexp(log_share + mask, axis=1, keepdims=True)
            loss -= factor * float((share * inside).sum())
            slope += factor * (np.exp(log_share) - np.exp(log_share + mask - inside))
        slope *= share
        return loss, np.concatenate([(features.T @ slope + strength * kernel).ravel(), slope.sum(axis=0)])

    start = np.zeros(width * classes + classes)
    flat = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x
    kernel = flat[: width * classes].reshape(width, classes) / deviation[:, None]
    bias = flat[width * classes :] - mean @ kernel
    return kernel.astype(np.float32), bias.astype(np.float32)


def best_head(
    embeddings: Array,
    allowed: Array,
    weights: Array,
    validation: Array,
    validation_malignant: Array,
) -> tuple[Array, Array, float, float]:
    """Refit with every strength; kernel, bias, the validation AUC of the best, and its strength."""
    tried = []
    for strength in STRENGTHS:
        kernel, bias = refit_head(embeddings, allowed, weights, strength)
        logits = validation @ kernel + bias
        side = logsumexp(logits[:, list(MALIGNANT_INDICES)], axis=1) - logsumexp(
            logits[:, list(BENIGN_INDICES)], axis=1
        )
        tried.append((float(roc_auc_score(validation_malignant, side)), strength, kernel, bias))
    auc, strength, kernel, bias = max(tried, key=lambda one: one[0])
    return kernel, bias, auc, strength
