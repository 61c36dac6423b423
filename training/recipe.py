"""What one training of one network does, as data: read from JSON, stored beside its result."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from training.augmentation import Augmentation
from training.sampling import Balance


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the training at one picture size; ``share`` is its part of the budget (shares add to one)."""

    size_px: int
    share: float
    freeze: str | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one network is trained.

    The budget is ``minutes`` of wall clock when given, else ``epochs`` of ``epoch_images`` pictures. Learning rate
    warms up linearly over ``warm_up`` of the budget and falls to zero by a cosine at its end.

    Attributes:
        network: its name.
        phases: picture sizes in order; ``freeze`` is a depth of ``FREEZE_POINTS``. Without phases the backbone stays
            as it starts, and ``refit_images`` gives it a head.
        batch_norm_frozen: keep batch-norm layers on the statistics of the start. A third faster, but wants a smaller
            learning rate: at 3e-4 MobileNet stayed at chance for hundreds of steps.
        label_smoothing: weight of the uniform distribution in the loss, 0–1.
        binary_weight: weight of the malignant/benign cross-entropy beside that of the diagnoses.
        teachers: networks already trained whose averaged soft answers are learnt too (knowledge distillation).
        teacher_weight: share of the loss that the teachers' answers have, 0–1.
        teacher_size_px: picture size at which the teachers look, a multiple of 32 and no smaller than the student's;
            ``None`` for the student's.
        feature_weight: weight of learning the teachers' last features, too, see :mod:`training.teaching`; 0 leaves
            it out. The distance is a mean over about a thousand features, so weights are large.
        agreement_weight: weight of the divergence between the answers to two variations of one picture, see
            :mod:`training.loss`; a batch then has half as many pictures, each twice. 0 leaves it out.
        average_momentum: of the running average of weights that is kept in the end; 0 keeps the last weights.
        refit_images: training pictures on whose embeddings the head is fitted anew in the end, see
            :mod:`training.refit`; all malignant ones are among them. 0 keeps the head as it was trained, which is
            better for a backbone that has learnt from the same pictures (MobileNet: 0.857 against 0.833).
        refit_size_px: picture size for that, and at which the network is then served.
        dtype_policy: ``float32`` or ``mixed_bfloat16``.
    """

    network: str
    phases: tuple[Phase, ...] = (Phase(160, 1.0),)
    minutes: float | None = None
    epochs: float = 10.0
    epoch_images: int = 6000
    batch: int = 32
    learning_rate: float = 3e-4
    warm_up: float = 0.06
    weight_decay: float = 0.02
    dropout: float = 0.2
    batch_norm_frozen: bool = False
    label_smoothing: float = 0.05
    binary_weight: float = 0.5
    teachers: tuple[str, ...] = ()
    teacher_weight: float = 0.5
    teacher_size_px: int | None = None
    feature_weight: float = 0.0
    agreement_weight: float = 0.0
    average_momentum: float = 0.98
    refit_images: int = 0
    refit_size_px: int = 192
    dtype_policy: str = "float32"
    seed: int = 20260101
    source_factors: dict[str, float] = field(default_factory=dict)
    balance: Balance = field(default_factory=Balance)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.agreement_weight and self.batch % 2:
            raise ValueError(f"a batch of {self.batch} cannot hold every picture twice: make it even")

    def as_json(self) -> dict[str, Any]:
        """Return the recipe as plain data."""
        return asdict(self)

    def rate_factor(self, spent: float) -> float:
        """Return the learning rate's factor (0–1) when ``spent`` (0–1) of the budget is used: warm-up, then cosine."""
        if spent < self.warm_up:
            return max(spent / self.warm_up, 0.02)
        return 0.5 * (1.0 + math.cos(math.pi * (spent - self.warm_up) / (1.0 - self.warm_up)))

    def steps_left(self, phase: Phase, seen_images: int) -> int | None:
        """Return the steps until a phase that has seen so many images ends, at least one; ``None`` for minutes."""
        if self.minutes is not None:
            return None
        wanted = phase.share * self.epochs * self.epoch_images
        return max(math.ceil((wanted - seen_images) / self.batch), 1)


def recipe_from(data: dict[str, Any]) -> Recipe:
    """Build a recipe from plain data.

    Raises:
        ValueError: for a key that no recipe has.
    """
    known = {f.name for f in fields(Recipe)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"unknown keys in a recipe: {', '.join(unknown)}")
    values = dict(data)
    if "phases" in values:
        values["phases"] = tuple(Phase(**phase) for phase in values["phases"])
    if "teachers" in values:
        values["teachers"] = tuple(values["teachers"])
    if "balance" in values:
        values["balance"] = Balance(**values["balance"])
    if "augmentation" in values:
        values["augmentation"] = Augmentation(**values["augmentation"])
    return Recipe(**values)


def read_recipes(path: Path) -> list[Recipe]:
    """Read a JSON list of recipes, in the order in which they are to be trained."""
    return [recipe_from(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
