"""The training loss: diagnoses, also half-known ones, the malignant side, soft answers of teachers, and agreement.

Targets are rows of 15 numbers: a mask of the seven diagnoses that the label permits, the teachers' seven
probabilities, and 1 where there are teachers. An image known only to be benign permits four diagnoses; its loss is the
negative log of their summed probability (marginal likelihood), so nothing is invented about which of them it is.

With an agreement weight, row ``i`` and row ``i + n/2`` are two variations of one picture, and each row also pays the
divergence of the other's answer from its own (Liang et al. 2021, "R-Drop"; Sajjadi et al. 2016 for variations of
pictures): a photograph that was turned, or taken a little closer, is still of the same lesion.
"""

from __future__ import annotations

from typing import Any

import keras

from training.networks import malignant_logit
from training.vocabulary import CLASSES, MALIGNANT_INDICES

TARGET_WIDTH = 2 * len(CLASSES) + 1

# Softening of the distilled answers (Hinton et al. 2015).
TEMPERATURE = 2.0


class DiagnosisLoss(keras.losses.Loss):  # type: ignore[misc]
    """See the module. ``call(targets [n,15], class_logits [n,7])`` → loss per row ``[n]``."""

    def __init__(
        self, label_smoothing: float, binary_weight: float, teacher_weight: float, agreement_weight: float = 0.0
    ) -> None:
        super().__init__(name="diagnosis_loss")
        self.label_smoothing = label_smoothing
        self.binary_weight = binary_weight
        self.teacher_weight = teacher_weight
        self.agreement_weight = agreement_weight

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss per row ``[n]`` of targets ``[n,15]`` and class logits ``[n,7]``."""
        ops = keras.ops
        width = len(CLASSES)
        logits = ops.cast(y_pred, "float32")
        targets = ops.cast(y_true, "float32")
        allowed, teacher, taught = targets[:, :width], targets[:, width : 2 * width], targets[:, 2 * width]
        log_share = logits - ops.logsumexp(logits, axis=1, keepdims=True)
        permitted = ops.logsumexp(log_share + (allowed - 1.0) * 1e4, axis=1)
        smooth = ops.mean(log_share, axis=1)
        diagnosis = -(1.0 - self.label_smoothing) * permitted - self.label_smoothing * smooth
        malignant = ops.max(ops.stack([allowed[:, i] for i in MALIGNANT_INDICES], axis=1), axis=1)
        side = malignant_logit(logits)
        wanted = malignant * (1.0 - self.label_smoothing) + 0.5 * self.label_smoothing
        binary = ops.softplus(side) - wanted * side
        supervised = diagnosis + self.binary_weight * binary
        softened = ops.log_softmax(logits / TEMPERATURE, axis=1)
        distilled = -ops.sum(teacher * softened, axis=1) * TEMPERATURE**2
        share = self.teacher_weight * taught
        taught_by_all = (1.0 - share) * supervised + share * distilled
        if not self.agreement_weight:
            return taught_by_all
        of_other = ops.roll(log_share, ops.shape(log_share)[0] // 2, axis=0)
        divergence = ops.sum(ops.exp(of_other) * (of_other - log_share), axis=1)
        return taught_by_all + self.agreement_weight * divergence


class HintLoss(keras.losses.Loss):  # type: ignore[misc]
    """Mean squared distance of the features told ``[n,h,w,d]`` from the teachers': 1 for one that knows nothing."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the distance per row ``[n]``."""
        return keras.ops.mean(keras.ops.square(keras.ops.cast(y_true, "float32") - y_pred), axis=(1, 2, 3))
