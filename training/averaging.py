"""Between the weights at the ends of two trainings: often better than either end.

Half of each (Izmailov et al. 2018), or less of the one that learnt something new at a price (Wortsman et al. 2022).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from training.networks import assign_weights, build_network, load_weights, weights_by_position
from training.published import published_network
from training.rounding import fold_batch_norm

Array = np.ndarray[Any, Any]


def mixed_with_published(name: str, weights: Path, folder: Path, trained_share: float) -> list[Array]:
    """Return the mean of trained ``weights`` and of those in the SavedModel in ``folder``, by position.

    The trained ones, which count by ``trained_share`` (0–1), must have gone on from the published ones: the mean of
    networks that never met answers nothing.
    Both have their batch norm folded first, as it is in a SavedModel; otherwise kernels of different scale would meet.

    Raises:
        NotPublishedHereError: when the folder holds no such network.
    """
    keras.config.set_dtype_policy("float32")
    trained = build_network(name)
    assign_weights(trained, load_weights(weights))
    fold_batch_norm(trained)
    ends = weights_by_position(trained), weights_by_position(published_network(name, folder))
    return [trained_share * new + (1.0 - trained_share) * old for new, old in zip(*ends, strict=True)]
