"""Train one network by its recipe, within a budget of minutes or epochs; interrupted runs resume.

Each phase of the recipe has its picture size and its depth of freezing (``backbone``: the head alone). Pictures are
drawn by :mod:`training.sampling` and augmented.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from sklearn.metrics import roc_auc_score

from training.augmentation import augment, resize
from training.loss import TARGET_WIDTH, DiagnosisLoss, HintLoss
from training.networks import (
    Network,
    assign_weights,
    build_network,
    freeze,
    load_weights,
    malignant_logit,
    save_weights,
    weights_by_position,
)
from training.recipe import Phase, Recipe
from training.refit import best_head
from training.teaching import Teachers, hint_layer, student_of
from training.vocabulary import CLASSES, MALIGNANT_INDICES

Array = np.ndarray[Any, Any]

# How often a running training writes what it needs to resume; writing takes under a second.
_CHECKPOINT_SECONDS = 90.0

# Steps that Keras counts as one epoch: how often the progress bar ends a line and the curves get a point.
_STEPS_PER_ROUND = 50

# Validation images that a phase is checked on: enough to see a failure, few enough to cost seconds.
_CHECKED_IMAGES = 400


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Squares uint8 ``[n,224,224,3]``, masks of permitted diagnoses ``[n,7]``, and the drawing probabilities."""

    pixels: Array
    allowed: Array
    weights: Array
    positions: Array
    validation: Array

    @property
    def malignant(self) -> Array:
        """Whether each image is malignant, bool ``[n]``."""
        return np.asarray(self.allowed[:, list(MALIGNANT_INDICES)].max(axis=1) > 0)


@dataclass
class Progress:
    """How far a training has come; survives an interruption."""

    seconds: float = 0.0
    images: int = 0
    phase: int = 0
    phase_seconds: float = 0.0
    phase_images: int = 0
    finished: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Augmented batches; batch ``i`` depends on the seed and ``i`` alone.

    With an agreement weight, the second half of a batch are the pictures of the first in other variations.
    ``left`` is how many there are, for the progress bar; ``None`` (a budget of minutes) has no end.
    """

    def __init__(
        self,
        data: TrainingData,
        recipe: Recipe,
        size_px: int,
        *,
        first: int,
        left: int | None,
        teachers: Teachers | None,
    ) -> None:
        super().__init__(workers=2, use_multiprocessing=False, max_queue_size=6)
        self._data, self._recipe, self._size, self._first, self._teachers = data, recipe, size_px, first, teachers
        self._left = left

    @property
    def num_batches(self) -> int | None:
        """How many batches are left, ``None`` without an end."""
        return self._left

    def __getitem__(self, index: int) -> tuple[Array, Any]:
        rng = np.random.default_rng((self._recipe.seed, self._first + index))
        variations = 2 if self._recipe.agreement_weight else 1
        chosen = rng.choice(self._data.positions, self._recipe.batch // variations, p=self._data.weights)
        chosen = np.tile(chosen, variations)
        targets = np.zeros((len(chosen), TARGET_WIDTH), np.float32)
        targets[:, : len(CLASSES)] = self._data.allowed[chosen]
        size = self._size if self._teachers is None else self._teachers.size_px
        shown = np.stack([augment(self._data.pixels[i], size, rng, self._recipe.augmentation) for i in chosen])
        pictures = np.stack([resize(picture, self._size) for picture in shown]).astype(np.float32)
        if self._teachers is None:
            return pictures, targets
        targets[:, len(CLASSES) : -1], features = self._teachers.answers(shown)
        targets[:, -1] = 1.0
        return pictures, (targets, features.astype(np.float32)) if self._recipe.feature_weight else targets


class _Pace(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the learning rate by the share of the budget that is spent, ends the phase, writes checkpoints."""

    def __init__(
        self, recipe: Recipe, progress: Progress, save: Callable[[], None], log: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._recipe, self._progress, self._save, self._log = recipe, progress, save, log
        self._last = time.monotonic()
        self._last_saved = self._last

    def _share(self, seconds: float, images: int) -> float:
        if self._recipe.minutes is not None:
            return seconds / (60.0 * self._recipe.minutes)
        return images / (self._recipe.epochs * self._recipe.epoch_images)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras' signature
        spent = min(self._share(self._progress.seconds, self._progress.images), 1.0)
        self.model.optimizer.learning_rate = self._recipe.learning_rate * self._recipe.rate_factor(spent)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.monotonic()
        progress = self._progress
        progress.seconds += now - self._last
        progress.phase_seconds += now - self._last
        self._last = now
        progress.images += self._recipe.batch
        progress.phase_images += self._recipe.batch
        phase = self._recipe.phases[progress.phase]
        if (batch + 1) % _STEPS_PER_ROUND == 0:
            point = {"seconds": round(progress.seconds, 1), "images": progress.images, "size_px": phase.size_px}
            point["loss"] = round(float((logs or {}).get("loss", math.nan)), 4)
            progress.curve.append(point)
            self._log(f"{self._recipe.network}: {json.dumps(point)}")
            self.model.reset_metrics()
        if self._share(progress.phase_seconds, progress.phase_images) >= phase.share:
            self.model.stop_training = True
        elif now - self._last_saved > _CHECKPOINT_SECONDS:
            self._save()
            self._last_saved = time.monotonic()


def predict(model: Any, pixels: Array, positions: Sequence[int] | Array, size_px: int, batch: int) -> Array:
    """Run a model over the squares at ``positions``, whole and unturned, at ``size_px``."""
    answers = []
    for start in range(0, len(positions), batch):
        part = positions[start : start + batch]
        pictures = np.stack([resize(pixels[i], size_px) for i in part]).astype(np.float32)
        missing = batch - len(pictures)
        padded = np.pad(pictures, ((0, missing), (0, 0), (0, 0), (0, 0)))
        answers.append(np.asarray(model.predict_on_batch(padded))[: len(part)])
    return np.concatenate(answers)


def malignant_auc(class_logits: Array, malignant: Array) -> float:
    """Return the area under the ROC curve of the malignant logit."""
    logit = np.asarray(keras.ops.convert_to_numpy(malignant_logit(keras.ops.convert_to_tensor(class_logits))))
    return float(roc_auc_score(malignant, logit))


def _checked(network: Network, data: TrainingData, recipe: Recipe) -> float:
    """Return the malignant AUC on a part of the validation images, to see early when a training goes wrong."""
    positions = data.validation[:: max(len(data.validation) // _CHECKED_IMAGES, 1)]
    logits = predict(network.classifier, data.pixels, positions, network.size_px, recipe.batch)
    malignant = data.malignant[positions]
    # A user's small folder may have no malignant, or no benign, image on its validation side.
    return malignant_auc(logits, malignant) if 0 < malignant.sum() < len(malignant) else math.nan


def _save_state(folder: Path, network: Network, beside: Sequence[Any], progress: Progress) -> None:
    """Write the network's weights, then what is ``beside`` them: the variables of hint layer and optimizer."""
    values = weights_by_position(network) + [np.asarray(keras.ops.convert_to_numpy(v)) for v in beside]
    save_weights(folder / "checkpoint.npz", values)
    _save_progress(folder, progress)


def _save_progress(folder: Path, progress: Progress) -> None:
    temporary = folder / "progress.tmp.json"
    temporary.write_text(json.dumps(vars(progress)), encoding="utf-8")
    temporary.replace(folder / "progress.json")


def train_network(
    recipe: Recipe,
    data: TrainingData,
    runs: Path,
    *,
    start: Callable[[Network], None] | None,
    log: Callable[[str], None],
    verbose: int = 2,
) -> Path:
    """Train one network and return the file of its weights, ``runs/<network>/weights.npz``.

    Beside it lie the recipe, the curve (CSV) and, while it runs, the checkpoint from which a second call resumes. A
    finished training is not repeated.

    Args:
        recipe: what to do.
        data: images and how to draw them.
        runs: folder of all runs; also where teachers are looked for.
        start: gives a new network its first weights (ImageNet's, or those of a network already published); ``None``
            leaves them random.
        log: receives one line per event.
        verbose: Keras' progress display (0 none, 1 bar, 2 line).
    """
    folder = runs / recipe.network
    result = folder / "weights.npz"
    folder.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.dtype_policy)
    progress = Progress()
    state: list[Array] | None = None
    if (folder / "progress.json").exists():
        progress = Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8")))
        if progress.finished and result.exists():
            log(f"{recipe.network}: already trained")
            return result
        state = load_weights(folder / "checkpoint.npz")
        log(f"{recipe.network}: resumes after {progress.seconds:.0f} s, {progress.images} images")
    (folder / "recipe.json").write_text(json.dumps(recipe.as_json(), indent=1), encoding="utf-8")
    log(f"{recipe.network}: seed {recipe.seed}, {len(data.positions)} images to draw from")

    carried: list[Array] | None = None
    hints: list[Array] = []
    while progress.phase < len(recipe.phases):
        phase = recipe.phases[progress.phase]
        network = build_network(recipe.network, phase.size_px, recipe.dropout)
        if state is not None:
            assign_weights(network, state[: len(network.classifier.weights)])
        elif carried is not None:
            assign_weights(network, carried)
        elif start is not None:
            start(network)
        _run_phase(
            network, phase, recipe, data, runs, progress=progress, state=state, hints=hints, log=log, verbose=verbose
        )
        state, carried = None, weights_by_position(network)
        progress.phase += 1
        progress.phase_seconds, progress.phase_images = 0.0, 0
        auc = _checked(network, data, recipe)
        done = f"phase {progress.phase} of {len(recipe.phases)} at {phase.size_px} px"
        log(f"{recipe.network}: {done}, validation AUC {auc:.4f}")
        _save_state(folder, network, [], progress)
    if carried is None:
        # Interrupted after the last phase: the checkpoint is the finished network. Without phases: the start is.
        size = recipe.phases[-1].size_px if recipe.phases else recipe.refit_size_px
        last = build_network(recipe.network, size)
        if start is not None:
            start(last)
        carried = state[: len(last.classifier.weights)] if state is not None else weights_by_position(last)
    save_weights(result, _with_better_head(recipe, carried, data, log) if recipe.refit_images else carried)
    progress.finished = True
    _save_progress(folder, progress)
    with (folder / "curve.csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, ["seconds", "images", "size_px", "loss"])
        writer.writeheader()
        writer.writerows(progress.curve)
    (folder / "checkpoint.npz").unlink(missing_ok=True)
    return result


def _with_better_head(
    recipe: Recipe, values: list[Array], data: TrainingData, log: Callable[[str], None]
) -> list[Array]:
    """Return the weights with the head fitted anew, or as they are where that is no better on the validation side."""
    size = recipe.refit_size_px
    network = build_network(recipe.network, size)
    assign_weights(network, values)
    head = network.classifier.get_layer("head")
    pooled = keras.Model(network.classifier.input, network.classifier.get_layer("pooled").output)
    rng = np.random.default_rng((recipe.seed, 1))
    chosen = _refitted_on(recipe, data, rng)
    malignant, checked = data.malignant[chosen], data.malignant[data.validation]
    if len(set(malignant)) < 2 or len(set(checked)) < 2:
        return values
    varied = np.stack([augment(data.pixels[i], size, rng, recipe.augmentation) for i in chosen])
    embeddings = np.concatenate(
        [
            predict(pooled, data.pixels, chosen, size, recipe.batch),
            predict(pooled, varied, np.arange(len(chosen)), size, recipe.batch),
        ]
    )
    weights = np.where(malignant, 0.5 / malignant.sum(), 0.5 / (~malignant).sum())
    validation = predict(pooled, data.pixels, data.validation, size, recipe.batch)
    before = malignant_auc(validation @ np.asarray(head.kernel) + np.asarray(head.bias), checked)
    twice = np.concatenate([data.allowed[chosen]] * 2)
    kernel, bias, after, strength = best_head(embeddings, twice, np.concatenate([weights] * 2), validation, checked)
    log(f"{recipe.network}: head at {size} px, validation AUC {before:.4f}, fitted anew {after:.4f} ({strength:g})")
    if after <= before:
        return values
    head.kernel.assign(kernel)
    head.bias.assign(bias)
    return weights_by_position(network)


def _refitted_on(recipe: Recipe, data: TrainingData, rng: np.random.Generator) -> Array:
    malignant = data.malignant[data.positions]
    benign = data.positions[~malignant]
    wanted = min(max(recipe.refit_images - int(malignant.sum()), 1), len(benign))
    return np.sort(np.concatenate([data.positions[malignant], rng.choice(benign, wanted, replace=False)]))


def _run_phase(
    network: Network,
    phase: Phase,
    recipe: Recipe,
    data: TrainingData,
    runs: Path,
    *,
    progress: Progress,
    state: list[Array] | None,
    hints: list[Array],
    log: Callable[[str], None],
    verbose: int,
) -> None:
    """Train one phase. ``hints`` are the hint layer's weights from the phase before, if any, and then from this one."""
    freeze(network, phase.freeze, batch_norm=recipe.batch_norm_frozen)
    optimizer = keras.optimizers.AdamW(
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        global_clipnorm=5.0,
        use_ema=recipe.average_momentum > 0,
        ema_momentum=recipe.average_momentum or 0.99,
    )
    teachers = None
    if recipe.teachers:
        size = recipe.teacher_size_px or phase.size_px
        teachers = Teachers(recipe.teachers, runs, size, data, recipe.batch, student_size_px=phase.size_px)
    student, hint_weights = network.classifier, []
    losses: list[Any] = [
        DiagnosisLoss(recipe.label_smoothing, recipe.binary_weight, recipe.teacher_weight, recipe.agreement_weight)
    ]
    if teachers is not None and recipe.feature_weight:
        hint = hint_layer(teachers.features)
        student = student_of(network, hint)
        hint_weights, losses = hint.weights, [*losses, HintLoss()]
        for variable, value in zip(hint_weights, hints or hint.get_weights(), strict=True):
            variable.assign(value)
    weights = [1.0, recipe.feature_weight][: len(losses)]
    student.compile(optimizer=optimizer, loss=losses, loss_weights=weights, jit_compile=False)
    optimizer.build(student.trainable_variables)
    beside = [*hint_weights, *optimizer.variables]
    if state is not None:
        saved = state[len(network.classifier.weights) :]
        if len(saved) == len(beside) and progress.phase_images:
            for variable, value in zip(beside, saved, strict=True):
                variable.assign(value)
    first = progress.images // recipe.batch
    left = recipe.steps_left(phase, progress.phase_images)
    batches = Batches(data, recipe, phase.size_px, first=first, left=left, teachers=teachers)
    folder = runs / recipe.network
    pace = _Pace(recipe, progress, lambda: _save_state(folder, network, beside, progress), log)
    log(f"{recipe.network}: {phase.size_px} px, frozen up to {phase.freeze or 'nothing'}")
    # With a running average, Keras leaves the averaged weights in the network when fit ends.
    student.fit(batches, epochs=1, shuffle=False, verbose=verbose, callbacks=[pace])
    hints[:] = [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in hint_weights]
