"""Sources and sides are drawn evenly, rare classes more often, nothing endlessly."""

import numpy as np
import pytest

from training.samples import Sample
from training.sampling import sampling_weights


def samples_of(source, **counts):
    sides = {"mel": "malignant", "bcc": "malignant", "nv": "benign", "bkl": "benign"}
    return [Sample(f"{source}{dx}{i}", source, dx, sides[dx], "") for dx, n in counts.items() for i in range(n)]


def test_malignant_and_benign_are_drawn_equally_within_each_source():
    samples = samples_of("a", mel=100, nv=900) + samples_of("b", mel=300, nv=100)
    weights = sampling_weights(samples)
    for source in "ab":
        inside = np.array([s.source == source for s in samples])
        malignant = np.array([s.label == "malignant" for s in samples])
        assert weights[inside & malignant].sum() == pytest.approx(weights[inside & ~malignant].sum())
    assert weights.sum() == pytest.approx(1)


def test_a_factor_raises_a_source():
    samples = samples_of("a", mel=50, nv=50) + samples_of("phone", mel=50, nv=50)
    weights = sampling_weights(samples, {"phone": 3.0})
    assert weights[100:].sum() == pytest.approx(0.75)


def test_a_rare_class_is_drawn_more_often_than_a_common_one_but_not_endlessly():
    samples = samples_of("a", nv=2000, bkl=2, mel=500)
    weights = sampling_weights(samples)
    common, rare = weights[0], weights[2000]
    assert rare > common
    assert rare * 2002 / weights[:2002].sum() < 10
