"""Test-time augmentation: the same lesion seen from several sides (Perez 2018; 8 turns as the SIIM-ISIC 2020 winner).

A lesion has no upright side, and whoever photographs it holds the camera as it comes. So the networks look at it from
a side that the picture itself gives, its pose: the turn in which its light weighs most to the right, and less, but
still, to the bottom. Every turn of one photograph has the same pose (a frame of one element: Puny et al. 2022, "Frame
averaging for invariant and equivariant network design"), so turning it changes no answer, from however few sides the
networks look; averaging over more makes it a better one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Turn:
    """So many quarter turns against the clock, then mirrored left to right or not."""

    quarter_turns: int
    mirrored: bool


#: In an order such that the first 1, 2, 4 and 8 are each a sensible set: a half turn, then mirrors, then quarters.
_TURNS = (
    Turn(0, mirrored=False),
    Turn(2, mirrored=False),
    Turn(0, mirrored=True),
    Turn(2, mirrored=True),
    Turn(1, mirrored=False),
    Turn(3, mirrored=False),
    Turn(1, mirrored=True),
    Turn(3, mirrored=True),
)


def pose_of(tensor: NDArray[np.uint8]) -> Turn:
    """The turn that brings `uint8 [side,side,3]` into its pose.

    Sums of whole numbers, so that it is the same whichever way the pixels lie. Only a picture that balances on an axis
    or a diagonal to the last unit has two poses; then the first turn that fits is taken.
    """
    side = len(tensor)
    from_centre = 2 * np.arange(side) - (side - 1)
    to_right = int(tensor.sum(axis=0, dtype=np.int64).sum(axis=1) @ from_centre)
    to_bottom = int(tensor.reshape(side, -1).sum(axis=1, dtype=np.int64) @ from_centre)
    return next(turn for turn in _TURNS if _weighs_as_in_pose(turn, to_right, to_bottom))


def _weighs_as_in_pose(turn: Turn, to_right: int, to_bottom: int) -> bool:
    for _ in range(turn.quarter_turns):
        to_right, to_bottom = to_bottom, -to_right
    if turn.mirrored:
        to_right = -to_right
    return to_right >= to_bottom >= 0


def turned(tensor: NDArray[np.uint8], count: int, pose: Turn) -> NDArray[np.uint8]:
    """The first `count` (1, 2, 4 or 8) turns of `uint8 [224,224,3]` in its pose, as `uint8 [count,224,224,3]`."""
    upright = np.rot90(tensor, pose.quarter_turns)
    if pose.mirrored:
        upright = upright[:, ::-1]
    upright = np.ascontiguousarray(upright)
    # Copying rows in another order is ten times as quick as mirroring them, so two turns that differ in the order of
    # their rows share one mirrored copy.
    across = np.ascontiguousarray(upright[:, ::-1])
    views = [upright, across[::-1], across, upright[::-1]]
    if count > len(views):
        lying = np.ascontiguousarray(upright.transpose(1, 0, 2))
        lying_across = np.ascontiguousarray(lying[:, ::-1])
        views += [lying[::-1], lying_across, lying_across[::-1], lying]
    return np.stack(views[:count])


def turned_back(attention: NDArray[np.float32], pose: Turn) -> NDArray[np.float32]:
    """Attention maps `[count,7,7]` of the turns, each brought back to the lesion as it was photographed."""
    return np.stack([_undone(_undone(view, turn), pose) for turn, view in zip(_TURNS, attention, strict=False)])


def _undone(view: NDArray[np.float32], turn: Turn) -> NDArray[np.float32]:
    upright = view[:, ::-1] if turn.mirrored else view
    return np.rot90(upright, -turn.quarter_turns)
