"""What a student learns from networks that were trained before it: their soft answers and their features.

Soft answers (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network") are seven numbers a picture. A
network that starts from nothing needs more to learn from: with ``Recipe.feature_weight`` a dense layer on its last
features also learns to tell the teachers', cell by cell (Romero et al. 2015, "FitNets: Hints for Thin Deep Nets"),
about a thousand numbers for each of 16 to 49 cells. That layer is dropped when the training ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from training.augmentation import resize
from training.loss import TEMPERATURE
from training.networks import Network, assign_weights, build_network, load_weights

if TYPE_CHECKING:
    from training.finetuning import TrainingData

Array = np.ndarray[Any, Any]

# Pixels on a side of what one cell of a network's last features stands for: all four halve the picture five times.
_CELL_PX = 32

# Pictures from which the features' mean and spread are taken.
_SCALING_IMAGES = 512


class Teachers:
    """Trained networks that look at what the student sees, at their own picture size.

    Attributes:
        size_px: width and height at which they look.
        features: how many features of a cell all of them together tell, ``d``.
    """

    def __init__(
        self, names: Sequence[str], runs: Path, size_px: int, data: TrainingData, batch: int, *, student_size_px: int
    ) -> None:
        """Build them from ``runs/<network>/weights.npz``.

        Args:
            names: the networks.
            runs: folder of all runs.
            size_px: width and height at which they look, a multiple of 32.
            student_size_px: those at which the student does; its cells are what the features are told for.
            data: training pictures, from some of which the features' mean and spread are taken.
            batch: how many pictures they are shown at once.
        """
        self.size_px = size_px
        self._to_cells = shares_of_cells(size_px // _CELL_PX, student_size_px // _CELL_PX)
        self._networks = []
        for name in names:
            network = build_network(name, size_px)
            assign_weights(network, load_weights(runs / name / "weights.npz"))
            looking = keras.Model(network.classifier.input, [network.classifier.output, last_features(network)])
            looking.trainable = False
            looking.compile(jit_compile=False)
            looking.make_predict_function()
            self._networks.append(looking)
        few = data.positions[:: max(len(data.positions) // _SCALING_IMAGES, 1)]
        shown = [np.resize(few[i : i + batch], batch) for i in range(0, len(few), batch)]
        seen = np.concatenate(
            [self._look(np.stack([resize(data.pixels[i], size_px) for i in part]))[1] for part in shown]
        )
        # One scale for all: by its own, a feature that is nearly always silent would weigh as much as any.
        self._mean = seen.mean(axis=(0, 1, 2))
        self._spread = float(np.sqrt(seen.var(axis=(0, 1, 2)).mean()))
        self.features: int = seen.shape[-1]

    def _look(self, pictures: Array) -> tuple[Array, Array]:
        answers = [network.predict_on_batch(pictures.astype(np.float32)) for network in self._networks]
        logits = np.mean([np.asarray(logits, dtype=np.float64) for logits, _ in answers], axis=0)
        cells = np.concatenate([np.asarray(features, dtype=np.float32) for _, features in answers], axis=3)
        return logits, np.einsum("ij,kl,njlc->nikc", self._to_cells, self._to_cells, cells, optimize=True)

    def answers(self, pictures: Array) -> tuple[Array, Array]:
        """Return soft answers ``[n,7]``, softened by the loss's temperature, and features ``[n,h,w,d]`` of pictures.

        Args:
            pictures: uint8 ``[n,size_px,size_px,3]``.

        Returns:
            Probabilities that sum to one, and the features of the student's cells, of mean 0 and mean variance 1 over
            the training pictures.
        """
        logits, features = self._look(pictures)
        soft = np.exp((logits - logits.max(axis=1, keepdims=True)) / TEMPERATURE)
        return soft / soft.sum(axis=1, keepdims=True), (features - self._mean) / self._spread


def last_features(network: Network) -> Any:
    """Return the tensor ``[n,h,w,c]`` that a network's head works on, before it is pooled."""
    return network.classifier.get_layer("pooled").input


def shares_of_cells(theirs: int, ours: int) -> Array:
    """Return which share of each of ``ours`` cells of a line each of ``theirs`` covers, ``[ours,theirs]``."""
    edges = np.arange(theirs + 1) / theirs
    starts, ends = np.arange(ours)[:, None] / ours, np.arange(1, ours + 1)[:, None] / ours
    overlap = np.minimum(edges[1:], ends) - np.maximum(edges[:-1], starts)
    return np.asarray(np.maximum(overlap, 0.0) * ours, dtype=np.float32)


def student_of(network: Network, hint: Any) -> Any:
    """Return the classifier with a second output: the teachers' features ``[n,h,w,d]``, as ``hint`` tells them."""
    return keras.Model(network.classifier.input, [network.classifier.output, hint(last_features(network))])


def hint_layer(features: int) -> Any:
    """Return the dense layer from a cell's features of a student to the teachers' ``features``."""
    return keras.layers.Dense(features, name="hint", dtype="float32")
