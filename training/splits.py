"""Grouped, stratified, seeded split: no lesion, patient or set of copies stands on two sides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

SPLITS: tuple[str, ...] = ("train", "validation", "test")

# Training takes what is left. Validation chooses, fits the stack and its bands; the test side is measured once.
SHARES: tuple[float, ...] = (0.74, 0.10, 0.16)


def split_groups(
    groups: Sequence[int] | np.ndarray[Any, Any],
    strata: Sequence[str],
    seed: int,
    shares: Sequence[float] = SHARES,
) -> np.ndarray[Any, Any]:
    """Assign every sample to a side, as an index into :data:`SPLITS`.

    Groups are taken from the largest to the smallest (ties in seeded random order), each to the side whose share of
    the group's strata lies furthest below its target.

    Args:
        groups: cluster number of every sample; a group is never cut.
        strata: what is to be spread evenly, for example ``source/malignant``.
        seed: of the random order.
        shares: target share of each side, adding to one.
    """
    names, stratum = np.unique(np.asarray(strata), return_inverse=True)
    ids, group = np.unique(np.asarray(groups), return_inverse=True)
    content = np.zeros((len(ids), len(names)))
    np.add.at(content, (group, stratum), 1.0)
    totals = content.sum(axis=0)
    targets = np.outer(shares, totals)
    filled = np.zeros_like(targets)
    sides = np.zeros(len(ids), dtype=int)
    order = np.random.default_rng(seed).permutation(len(ids))
    order = order[np.argsort(-content.sum(axis=1)[order], kind="stable")]
    for g in order:
        # Relative need of each side, over the strata that this group brings.
        need = ((targets - filled) / np.maximum(targets, 1e-9)) @ (content[g] / np.maximum(totals, 1.0))
        side = int(np.argmax(need))
        sides[g] = side
        filled[side] += content[g]
    return sides[group]


def split_fingerprint(identities: Sequence[str], sides: Sequence[int] | np.ndarray[Any, Any]) -> str:
    """Return the SHA-256, in hex, of which image stands on which side; their order does not matter."""
    dealt = sorted((identity, SPLITS[side]) for identity, side in zip(identities, sides, strict=True))
    return hashlib.sha256(json.dumps(dealt).encode()).hexdigest()
