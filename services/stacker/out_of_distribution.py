"""Telling a lesion from a cat, a document or a wall, by the embedding of one network.

A linear score learnt from lesions and from other pictures (outlier exposure: Hendrycks et al. 2019, "Deep anomaly
detection with outlier exposure"). It is fitted by `training/` and travels in `stack.json`:

    {"method": "outlier_exposure", "network": "mobilenet", "weights": [d], "intercept": f, "threshold": f,
     "mean": [d], "components": [k rows of d, orthonormal], "deviations": [k], …}

Larger scores are stranger; above `threshold` the picture is no lesion. Mean, components and deviations describe the
principal subspace of the training images' embeddings, scaled to unit length: the reference for drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from services.analysis.errors import ModelMismatchError
from serving.answers import NetworkAnswer


class _Fitted(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="ignore")

    method: Literal["outlier_exposure"]
    network: str
    weights: list[float]
    intercept: float
    threshold: float
    mean: list[float]
    components: list[list[float]]
    deviations: list[float]


@dataclass(frozen=True, slots=True, eq=False)
class Familiarity:
    """What one network's embeddings of lesions look like, and the direction in which other pictures differ."""

    network: str
    weights: NDArray[np.float64]
    intercept: float
    threshold: float
    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    deviations: NDArray[np.float64]

    def score(self, embedding: NDArray[np.float32]) -> NDArray[np.float64]:
        """Strangeness of each of `[n,d]` embeddings, as a logit."""
        score: NDArray[np.float64] = embedding.astype(np.float64) @ self.weights + self.intercept
        return score

    def coordinates(self, embedding: NDArray[np.float32]) -> NDArray[np.float64]:
        """`[n,d]` embeddings in the principal subspace, `[n,k]`: mean 0 and variance 1 over the training images."""
        lengths = np.linalg.norm(embedding, axis=1, keepdims=True)
        centred = embedding / np.maximum(lengths, np.finfo(np.float32).tiny) - self.mean
        coordinates: NDArray[np.float64] = centred @ self.components.T / self.deviations
        return coordinates

    def is_lesion(self, answers: Sequence[NetworkAnswer]) -> bool:
        """Whether the picture behind the answers looks like those the networks were trained on.

        The first turn alone is judged, so that the verdict does not depend on test-time augmentation.
        """
        answer = next(answer for answer in answers if answer.name == self.network)
        if answer.embedding is None or answer.embedding.shape[-1] != len(self.weights):
            raise ModelMismatchError(f"{self.network} gives no embedding of {len(self.weights)}; the stack needs it.")
        return bool(self.score(answer.embedding[:1])[0] <= self.threshold)


def familiarity_from(fitted: dict[str, JsonValue] | None) -> Familiarity | None:
    """What `stack.json` says under `out_of_distribution`; None when it says nothing.

    Raises:
        ModelMismatchError: it is of a method or shape that this version does not know.
    """
    if fitted is None:
        return None
    try:
        part = _Fitted.model_validate(fitted)
        return Familiarity(
            network=part.network,
            weights=np.asarray(part.weights),
            intercept=part.intercept,
            threshold=part.threshold,
            mean=np.asarray(part.mean),
            components=np.asarray(part.components).reshape(len(part.deviations), len(part.mean)),
            deviations=np.asarray(part.deviations),
        )
    except (ValidationError, ValueError) as error:
        raise ModelMismatchError(f"out_of_distribution in stack.json cannot be used: {error}") from error
