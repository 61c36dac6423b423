"""Whether the pictures that arrive still resemble those the networks were trained on.

The reference is the one that `stack.json` holds: the principal subspace of the training images' embeddings, in whose
coordinates, divided by their deviations, training images have mean 0 and variance 1. Over the pictures that arrive runs
an exponentially weighted mean of these coordinates; its squared length, divided by what chance alone would give it, is
the score (multivariate EWMA control chart, Lowry et al. 1992). 1 is no drift; with 16 coordinates chance stays below 3
except once in some ten thousand looks. Cameras, skin tones and body sites that the training images had less of drift,
too: the score says "look", not "wrong".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.stacker.out_of_distribution import Familiarity

#: Weight of the newest picture: the mean remembers about the last hundred.
WEIGHT = 0.02
#: Pictures before which there is no score: a mean of few is still their own noise.
ENOUGH = 50


class Drift:
    """The running mean of one process."""

    def __init__(self, reference: Familiarity) -> None:
        self._reference = reference
        self._mean = np.zeros(len(reference.deviations))
        self._seen = 0

    def add(self, embedding: NDArray[np.float32]) -> float | None:
        """Takes in one embedding [d]; the score with it, ≥ 0, or None while there were too few."""
        coordinates = self._reference.coordinates(embedding[None])[0]
        self._mean += WEIGHT * (coordinates - self._mean)
        self._seen += 1
        if self._seen < ENOUGH:
            return None
        by_chance = WEIGHT / (2 - WEIGHT) * (1 - (1 - WEIGHT) ** (2 * self._seen))
        return float((self._mean**2).mean() / by_chance)
