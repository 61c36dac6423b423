"""What a student learns from networks that were trained before it: their soft answers and their features.

Soft answers (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network") are seven numbers a picture. A
network that starts from nothing needs more to learn from: with ``Recipe.feature_weight`` a dense layer on its pooled
features also learns to tell the teachers' (Romero et al. 2015, "FitNets: Hints for Thin Deep Nets"), about a thousand
numbers a picture. That layer is dropped when the training ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from training.augmentation import resize
from training.loss import TEMPERATURE
from training.networks import assign_weights, build_network, load_weights

if TYPE_CHECKING:
    from training.finetuning import TrainingData

Array = np.ndarray[Any, Any]

# Pictures from which the features' mean and spread are taken.
_SCALING_IMAGES = 512


class Teachers:
    """Trained networks that look at what the student sees, at their own picture size.

    Attributes:
        size_px: width and height at which they look.
        features: how many features all of them together tell, ``d``.
    """

    def __init__(self, names: Sequence[str], runs: Path, size_px: int, data: TrainingData, batch: int) -> None:
        """Build them from ``runs/<network>/weights.npz``.

        Args:
            names: the networks.
            runs: folder of all runs.
            size_px: width and height at which they look, a multiple of 32.
            data: training pictures, from some of which the features' mean and spread are taken.
            batch: how many pictures they are shown at once.
        """
        self.size_px = size_px
        self._networks = []
        for name in names:
            network = build_network(name, size_px)
            assign_weights(network, load_weights(runs / name / "weights.npz"))
            pooled = network.classifier.get_layer("pooled").output
            looking = keras.Model(network.classifier.input, [network.classifier.output, pooled])
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
        self._mean, self._spread = seen.mean(axis=0), float(np.sqrt(seen.var(axis=0).mean()))
        self.features: int = seen.shape[1]

    def _look(self, pictures: Array) -> tuple[Array, Array]:
        answers = [network.predict_on_batch(pictures.astype(np.float32)) for network in self._networks]
        logits = np.mean([np.asarray(logits, dtype=np.float64) for logits, _ in answers], axis=0)
        return logits, np.concatenate([np.asarray(pooled, dtype=np.float64) for _, pooled in answers], axis=1)

    def answers(self, pictures: Array) -> tuple[Array, Array]:
        """Return soft answers ``[n,7]``, softened by the loss's temperature, and features ``[n,d]`` of pictures.

        Args:
            pictures: uint8 ``[n,size_px,size_px,3]``.

        Returns:
            Probabilities that sum to one, and features of mean 0 and mean variance 1 over the training pictures.
        """
        logits, features = self._look(pictures)
        soft = np.exp((logits - logits.max(axis=1, keepdims=True)) / TEMPERATURE)
        return soft / soft.sum(axis=1, keepdims=True), (features - self._mean) / self._spread


def student_of(classifier: Any, hint: Any) -> Any:
    """Return the classifier with a second output: the teachers' features ``[n,d]``, as ``hint`` tells them."""
    return keras.Model(classifier.input, [classifier.output, hint(classifier.get_layer("pooled").output)])


def hint_layer(features: int) -> Any:
    """Return the dense layer from a student's pooled features to the teachers' ``features``."""
    return keras.layers.Dense(features, name="hint", dtype="float32")
