"""The mean of the weights at the ends of two cosines, often better than either end (Izmailov et al. 2018)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from training.networks import assign_weights, build_network, load_weights, weights_by_position
from training.published import published_network
from training.rounding import fold_batch_norm

Array = np.ndarray[Any, Any]


def mean_with_published(name: str, weights: Path, folder: Path) -> list[Array]:
    """Return the mean of trained ``weights`` and of those in the SavedModel in ``folder``, by position.

    The trained ones must have gone on from the published ones: the mean of networks that never met answers nothing.
    Both have their batch norm folded first, as it is in a SavedModel; otherwise kernels of different scale would meet.

    Raises:
        NotPublishedHereError: when the folder holds no such network.
    """
    keras.config.set_dtype_policy("float32")
    trained = build_network(name)
    assign_weights(trained, load_weights(weights))
    fold_batch_norm(trained)
    ends = weights_by_position(trained), weights_by_position(published_network(name, folder))
    return [(one + other) / 2 for one, other in zip(*ends, strict=True)]
