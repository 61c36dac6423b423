"""Pictures like the training images give no drift; pictures of another kind do."""

from __future__ import annotations

import numpy as np
import pytest

from services.stacker.drift import ENOUGH, Drift
from services.stacker.out_of_distribution import Familiarity

WIDTH, KEPT = 64, 8


@pytest.fixture
def reference() -> Familiarity:
    rng = np.random.default_rng(0)
    mean = rng.normal(0, 1, WIDTH)
    mean /= np.linalg.norm(mean)
    # Coordinates at right angles to the mean, so that scaling to unit length leaves them nearly as they are.
    basis, _ = np.linalg.qr(np.column_stack([mean, rng.normal(0, 1, (WIDTH, KEPT))]))
    return Familiarity("mobilenet", np.zeros(WIDTH), 0.0, 1.0, mean, basis[:, 1:].T, np.full(KEPT, 0.01))


def scores(reference: Familiarity, shift: float, count: int = 400) -> list[float | None]:
    rng = np.random.default_rng(1)
    drift = Drift(reference)
    coordinates = rng.normal(0, 1, (count, KEPT)) + shift
    embeddings = reference.mean + (coordinates * reference.deviations) @ reference.components
    return [drift.add(embedding.astype(np.float32)) for embedding in embeddings]


def test_pictures_like_the_training_images_score_about_one(reference: Familiarity) -> None:
    # Means of k squared normal variables: of 8, one look in 10^6 reaches 5.
    assert max(score for score in scores(reference, 0.0) if score is not None) < 5


def test_pictures_from_elsewhere_score_far_above(reference: Familiarity) -> None:
    last = scores(reference, 1.0)[-1]
    assert last is not None
    assert last > 50


def test_few_pictures_have_no_score(reference: Familiarity) -> None:
    assert [score is None for score in scores(reference, 0.0, ENOUGH)] == [True] * (ENOUGH - 1) + [False]
