"""Which images a training step sees: every source and class more evenly than the data hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.samples import Sample
from training.vocabulary import MALIGNANT

# An image is never drawn more often than this many times its side's average: rare classes are not learnt by heart.
_LARGEST_OVERSAMPLING = 8.0


# A source's, and inside a side a diagnosis', share is its size to this power: 1 leaves the natural shares, 0 makes
# them equal.
_SOURCE_EXPONENT = 0.5
_DIAGNOSIS_EXPONENT = 0.6


@dataclass(frozen=True, slots=True)
class Balance:
    """What is drawn more evenly than it comes; every part can be switched off.

    ``sources``: large ones count by the square root of their size. ``sides``: malignant and benign share equally in
    each source, so that the source gives no hint of the answer. ``diagnoses``: by size to the power 0.6 in each side.
    """

    sources: bool = True
    sides: bool = True
    diagnoses: bool = True


def sampling_weights(
    samples: Sequence[Sample], source_factors: Mapping[str, float] | None = None, balance: Balance = Balance()
) -> np.ndarray[Any, Any]:
    """Return the probability of drawing each sample, adding to one.

    ``source_factors`` multiply the shares of sources.
    """
    source_exponent = _SOURCE_EXPONENT if balance.sources else 1.0
    class_exponent = _DIAGNOSIS_EXPONENT if balance.diagnoses else 1.0
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
            of_side = 1.0 / len(present) if balance.sides else on_side.sum() / of_source.sum()
            weights += share * of_side * drawn / drawn.sum()
    total: np.ndarray[Any, Any] = weights / weights.sum()
    return total
