"""The head fitted anew on embeddings."""

import numpy as np
import pytest
from scipy.special import softmax

from training.refit import best_head, refit_head
from training.vocabulary import BENIGN_INDICES, CLASSES, MALIGNANT_INDICES


def embedded(count: int, seed: int, width: int = 12):
    """Embeddings in which the first seven features carry the diagnosis, the others nothing."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(CLASSES), count)
    embeddings = rng.normal(3.0, 1.0, (count, width)) * np.linspace(0.2, 5.0, width)
    embeddings[np.arange(count), truth] += 2.5 * np.linspace(0.2, 5.0, width)[truth]
    return embeddings.astype(np.float32), np.eye(len(CLASSES))[truth], truth


def test_it_finds_the_diagnoses_whatever_the_scale_of_the_features():
    embeddings, allowed, _ = embedded(1500, 0)
    kernel, bias = refit_head(embeddings, allowed, np.ones(1500), 1e-3)
    others, _, truth = embedded(500, 1)
    assert ((others @ kernel + bias).argmax(axis=1) == truth).mean() > 0.75


def test_an_ambiguous_label_pulls_towards_its_side_and_not_towards_one_diagnosis():
    embeddings, allowed, truth = embedded(1500, 2)
    benign = np.isin(truth, BENIGN_INDICES)
    half_known = allowed.copy()
    hidden = benign & (np.arange(1500) % 2 == 0)
    half_known[hidden] = 0
    half_known[np.ix_(hidden, BENIGN_INDICES)] = 1
    kernel, bias = refit_head(embeddings, half_known, np.ones(1500), 1e-3)
    probability = softmax(embeddings[hidden] @ kernel + bias, axis=1)
    assert probability[:, list(MALIGNANT_INDICES)].sum(axis=1).mean() < 0.15
    # The diagnosis, which only the other images told, is found on these as well.
    assert (probability.argmax(axis=1) == truth[hidden]).mean() > 0.7


def test_a_stronger_ridge_gives_a_smaller_kernel():
    embeddings, allowed, _ = embedded(600, 3)
    sizes = [np.linalg.norm(refit_head(embeddings, allowed, np.ones(600), s)[0]) for s in (1e-3, 1e-1, 10.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 0.1 * sizes[0]


def test_an_image_of_weight_zero_counts_for_nothing():
    embeddings, allowed, _ = embedded(600, 4)
    wrong = np.roll(allowed[300:], 1, axis=1)
    weights = np.r_[np.ones(300), np.zeros(300)]
    spoilt, _ = refit_head(embeddings, np.vstack([allowed[:300], wrong]), weights, 1e-2)
    clean, _ = refit_head(embeddings, allowed, weights, 1e-2)
    assert spoilt == pytest.approx(clean, abs=1e-4)


def test_the_strength_is_the_one_that_is_best_on_the_validation_side():
    embeddings, allowed, _ = embedded(200, 5)
    validation, _, truth = embedded(400, 6)
    malignant = np.isin(truth, MALIGNANT_INDICES)
    kernel, _, auc, strength = best_head(embeddings, allowed, np.ones(200), validation, malignant)
    assert kernel.shape == (12, 7)
    assert 0.8 < auc <= 1
    assert strength > 0
