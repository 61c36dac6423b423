"""Which images a training step sees: every source and class more evenly than the data hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.samples import Sample
from training.vocabulary import MALIGNANT

# An image is never drawn more often than this many times its side's average: rare classes are not learnt by heart.
_LARGEST_OVERSAMPLING = 8.0


def sampling_weights(
    samples: Sequence[Sample],
    source_factors: Mapping[str, float] | None = None,
    source_exponent: float = 0.5,
    class_exponent: float = 0.6,
) -> np.ndarray[Any, Any]:
    """Return the probability of drawing each sample, adding to one.

    A source's share is its size to the power ``source_exponent`` times its factor. Inside a source, the malignant
    and the benign side share equally, so that the source gives no hint of the answer; inside a side, a diagnosis'
    share is its size to the power ``class_exponent`` (1 leaves the natural shares, 0 makes them equal).
    """
    factors = source_factors or {}
    diagnoses = [s.term.diagnosis or s.term.verdict.value for s in samples]
    weights = np.zeros(len(samples))
    sources = np.array([s.source for s in samples])
    sides = np.array([d in MALIGNANT for d in diagnoses])
    names = np.array(diagnoses)
    for source in np.unique(sources):
        of_source = sources == source
        share = float(of_source.sum()) ** source_exponent * factors.get(str(source), 1.0)
        present = [side for side in (True, False) if (of_source & (sides == side)).any()]
        for side in present:
            on_side = of_source & (sides == side)
            drawn = np.zeros(len(samples))
            for name in np.unique(names[on_side]):
                of_class = on_side & (names == name)
                drawn[of_class] = float(of_class.sum()) ** (class_exponent - 1.0)
            drawn /= drawn.sum()
            drawn = np.minimum(drawn, _LARGEST_OVERSAMPLING / on_side.sum())
            weights += share / len(present) * drawn / drawn.sum()
    total: np.ndarray[Any, Any] = weights / weights.sum()
    return total
