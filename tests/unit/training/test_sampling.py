"""Sources and sides are drawn evenly, rare classes more often, nothing endlessly."""

import numpy as np
import pytest

from training.samples import Sample
from training.sampling import Balance, sampling_weights


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


@pytest.mark.parametrize(
    ("balance", "malignant", "of_a", "melanoma_among_malignant"),
    [
        (Balance(sources=False), 0.5, 0.8, None),
        (Balance(sides=False, sources=False), 0.25, 0.8, None),
        (Balance(diagnoses=False, sources=False, sides=False), 0.25, 0.8, 0.9),
    ],
)
def test_what_is_not_balanced_is_drawn_as_it_comes(balance, malignant, of_a, melanoma_among_malignant):
    samples = samples_of("a", mel=90, bcc=10, nv=300) + samples_of("b", mel=25, nv=75)

    weights = sampling_weights(samples, balance=balance)

    assert weights[[s.label == "malignant" for s in samples]].sum() == pytest.approx(malignant)
    assert weights[[s.source == "a" for s in samples]].sum() == pytest.approx(of_a)
    if melanoma_among_malignant is not None:
        assert weights[:90].sum() / weights[:100].sum() == pytest.approx(melanoma_among_malignant)
