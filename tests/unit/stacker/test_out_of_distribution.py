"""What does not look like the training images is told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.analysis.errors import ModelMismatchError
from services.stacker.out_of_distribution import Familiarity, familiarity_from
from serving.answers import NetworkAnswer

FITTED: dict[str, Any] = {
    "method": "outlier_exposure",
    "network": "mobilenet",
    "weights": [1.0, -2.0, 0.0],
    "intercept": 0.5,
    "threshold": 1.0,
    "mean": [1.0, 0.0, 0.0],
    "components": [[0.0, 1.0, 0.0]],
    "deviations": [0.1],
}


def answer(name: str, embedding: list[float] | None) -> NetworkAnswer:
    one = np.zeros(1, np.float32)
    rows = None if embedding is None else np.array([embedding], np.float32)
    return NetworkAnswer(name, 1, one, np.zeros((1, 7), np.float32), np.zeros((1, 7, 7), np.float32), rows)


def familiarity() -> Familiarity:
    fitted = familiarity_from(FITTED)
    assert fitted is not None
    return fitted


def test_strangeness_is_a_linear_score_of_the_embedding() -> None:
    embeddings = np.array([[0, 0, 7], [2, 0, 0], [0, 1, 0]], np.float32)
    assert familiarity().score(embeddings) == pytest.approx([0.5, 2.5, -1.5])


@pytest.mark.parametrize(("embedding", "is_lesion"), [([0.5, 0, 0], True), ([0.6, 0, 0], False)])
def test_above_the_threshold_it_is_no_lesion(embedding: list[float], is_lesion: bool) -> None:
    answers = [answer("densenet121", None), answer("mobilenet", embedding)]
    assert familiarity().is_lesion(answers) is is_lesion


@pytest.mark.parametrize("embedding", [None, [1.0, 2.0]])
def test_a_network_that_gives_another_embedding_than_the_stack_was_fitted_for_is_a_mismatch(embedding: Any) -> None:
    with pytest.raises(ModelMismatchError, match="embedding"):
        familiarity().is_lesion([answer("mobilenet", embedding)])


def test_coordinates_are_those_of_the_training_images_at_any_brightness() -> None:
    embeddings = np.array([[1, 0, 0], [20, 0, 0], [0.6, 0.8, 0]], np.float32)
    assert familiarity().coordinates(embeddings)[:, 0] == pytest.approx([0, 0, 8])


def test_a_stack_without_it_refuses_nothing() -> None:
    assert familiarity_from(None) is None


@pytest.mark.parametrize("changes", [{"method": "oracle"}, {"deviations": [0.1, 0.2]}, {"weights": "no"}])
def test_a_method_that_is_not_known_refuses_to_start(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelMismatchError, match="out_of_distribution"):
        familiarity_from({**FITTED, **changes})
