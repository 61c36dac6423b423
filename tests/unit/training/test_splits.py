"""A split that leaks makes every later number a lie."""

from collections import Counter

import numpy as np
import pytest

from training.splits import SHARES, SPLITS, split_fingerprint, split_groups


def some_groups(seed: int, count: int = 3000):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, count // 2, count)
    strata = np.where(rng.random(count) < 0.2, "a/malignant", "a/benign")
    return groups, list(strata)


@pytest.mark.parametrize("seed", range(5))
def test_no_group_stands_on_two_sides(seed):
    groups, strata = some_groups(seed)
    sides = split_groups(groups, strata, seed)
    for group in np.unique(groups):
        assert len(set(sides[groups == group])) == 1


def test_every_side_gets_its_share_of_every_stratum():
    groups, strata = some_groups(0)
    sides = split_groups(groups, strata, seed=1)
    for stratum in set(strata):
        inside = sides[np.array(strata) == stratum]
        for side, share in enumerate(SHARES):
            assert (inside == side).mean() == pytest.approx(share, abs=0.02)


def test_the_test_side_is_at_least_fifteen_per_cent():
    groups, strata = some_groups(3)
    counts = Counter(SPLITS[s] for s in split_groups(groups, strata, seed=2))
    assert counts["test"] >= 0.15 * len(groups)


def test_the_same_seed_gives_the_same_split_and_another_one_another():
    groups, strata = some_groups(4)
    first, again, other = (split_groups(groups, strata, seed) for seed in (7, 7, 8))
    assert (first == again).all()
    assert (first != other).any()


def test_a_fingerprint_tells_splits_apart_and_not_orders():
    fingerprint = split_fingerprint(["a", "b", "c"], [0, 1, 2])
    assert split_fingerprint(["c", "a", "b"], [2, 0, 1]) == fingerprint
    assert split_fingerprint(["a", "b", "c"], [0, 2, 1]) != fingerprint
    assert split_fingerprint(["a", "b"], [0, 1]) != fingerprint
