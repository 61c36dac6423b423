"""Batch normalisation in one operation, on the TensorFlow backend.

Keras 3 writes its own as a dozen operations, each of which reads and writes all features. On two cores that was more
than half of a DenseNet's training step: DenseNet121 at 160 px took 12 images a second and takes 18 now, or 28 in
``mixed_bfloat16`` on a processor that has it.
"""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="lesionlens")
class OnePassBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Keras' layer, computed by TensorFlow's fused kernel while it learns; otherwise, and elsewhere, as it is.

    The kernel's moving variance has Bessel's correction, Keras' does not: a thousandth at 7 × 7 cells of 32 pictures.
    """

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Return ``[n,h,w,c]`` normalised over all but the channels."""
        over_channels = len(inputs.shape) == 4 and self.axis in (-1, 3) and mask is None
        plain = not training or not self.trainable or not over_channels
        if plain or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        from tensorflow import raw_ops

        ops = keras.ops
        channels, none = self.moving_mean.shape, ops.zeros((0,), "float32")
        normalised, mean, variance, *_ = raw_ops.FusedBatchNormV3(
            x=ops.cast(inputs, self.compute_dtype),
            scale=ops.cast(self.gamma, "float32") if self.scale else ops.ones(channels, "float32"),
            offset=ops.cast(self.beta, "float32") if self.center else ops.zeros(channels, "float32"),
            mean=none,
            variance=none,
            epsilon=self.epsilon,
            is_training=True,
        )
        for moving, seen in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + ops.cast(seen, moving.dtype) * (1.0 - self.momentum))
        return normalised


def in_one_pass(model: Any, momentum: float) -> Any:
    """Return a functional model with the same layers and names, new weights, and this batch normalisation in it."""

    def cloned(layer: Any) -> Any:
        if isinstance(layer, keras.layers.BatchNormalization):
            return OnePassBatchNormalization.from_config(layer.get_config() | {"momentum": momentum})
        return layer.__class__.from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=cloned)
