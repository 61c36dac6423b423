"""Test-time augmentation: the same lesion seen from several sides (Perez 2018; 8 turns as the SIIM-ISIC 2020 winner).

A lesion has no upright side. Averaging over the eight symmetries of the square makes the answer the same whichever
way the photograph was held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class _Turn:
    quarter_turns: int
    mirrored: bool


#: In an order such that the first 1, 2, 4 and 8 are each a sensible set: a half turn, then mirrors, then quarters.
_TURNS = (
    _Turn(0, mirrored=False),
    _Turn(2, mirrored=False),
    _Turn(0, mirrored=True),
    _Turn(2, mirrored=True),
    _Turn(1, mirrored=False),
    _Turn(3, mirrored=False),
    _Turn(1, mirrored=True),
    _Turn(3, mirrored=True),
)


def turned(tensor: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """The first `count` (1, 2, 4 or 8) turns of `uint8 [224,224,3]` as `uint8 [count,224,224,3]`."""
    # Copying rows in another order is ten times as quick as mirroring them, so two turns that differ in the order of
    # their rows share one mirrored copy.
    across = np.ascontiguousarray(tensor[:, ::-1])
    views = [tensor, across[::-1], across, tensor[::-1]]
    if count > len(views):
        lying = np.ascontiguousarray(tensor.transpose(1, 0, 2))
        lying_across = np.ascontiguousarray(lying[:, ::-1])
        views += [lying[::-1], lying_across, lying_across[::-1], lying]
    return np.stack(views[:count])


def turned_back(attention: NDArray[np.float32]) -> NDArray[np.float32]:
    """Attention maps `[count,7,7]` of the turns, each brought back to the upright lesion."""
    views = []
    for turn, view in zip(_TURNS, attention, strict=False):
        upright = view[:, ::-1] if turn.mirrored else view
        views.append(np.rot90(upright, -turn.quarter_turns))
    return np.stack(views)
