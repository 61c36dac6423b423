"""Stacked generalisation (Wolpert 1992): the four networks' logits to one calibrated answer.

The stack is data, not code: `stack.json`, exported together with the networks it was fitted for. It holds a logistic
regression on the four malignant logits (its sigmoid is the calibrated probability), a multinomial one on the
networks' log-softmax of the seven classes, and the two thresholds of the band; and, where the ages of enough people
were known, what a person's age adds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from services.analysis.errors import ModelMismatchError
from services.analysis.results import (
    ATTENTION_SIDE,
    CLASSES,
    NETWORKS,
    Band,
    Explanation,
    NetworkExplanation,
    NetworkOpinion,
    Result,
)
from services.stacker.age import AgeEffect, AgeRegression
from serving.answers import NetworkAnswer
from serving.model_files import checksum, network_file

Floats = NDArray[np.float64]
Turns = Literal[1, 2, 4, 8]

#: Beside the networks: the stack that answers, and the one for versions that are only tried (the canaries).
STACK_FILE = "stack.json"
CANARY_STACK_FILE = "stack.canary.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class StackedNetwork(_Part):
    """A network the stack was fitted on, with the digest of its `saved_model.pb`."""

    name: str
    version: int = Field(ge=1)
    sha256: str
    #: Turns it looks at by itself; None: as many as the others.
    turns: Turns | None = None


class MalignantRegression(_Part):
    """Logistic regression on the malignant logits, in network order."""

    coefficients: tuple[float, float, float, float]
    intercept: float


class ClassRegression(_Part):
    """Multinomial regression: a row per class over the four networks' log-softmax, network by network."""

    names: tuple[str, ...]
    coefficients: tuple[tuple[float, ...], ...]
    intercepts: tuple[float, ...]

    @model_validator(mode="after")
    def _fits(self) -> ClassRegression:
        if self.names != CLASSES:
            raise ValueError(f"classes are {self.names}, not {CLASSES}")
        width = len(NETWORKS) * len(CLASSES)
        if [len(row) for row in self.coefficients] != [width] * len(CLASSES):
            raise ValueError(f"coefficients are not {len(CLASSES)} rows of {width}")
        if len(self.intercepts) != len(CLASSES):
            raise ValueError("there is not one intercept per class")
        return self


class Bands(_Part):
    """Probability thresholds: below `low_below` is low, from `high_from` on is high, unsure between."""

    low_below: Annotated[float, Field(ge=0, le=1)]
    high_from: Annotated[float, Field(ge=0, le=1)]
    sensitivity_low: float
    sensitivity_high: float
    measured_on: str

    @model_validator(mode="after")
    def _ordered(self) -> Bands:
        if self.low_below > self.high_from:
            raise ValueError("low_below is above high_from")
        return self


class Stack(_Part):
    """The whole of `stack.json` that answers are made from."""

    version: str
    networks: tuple[StackedNetwork, StackedNetwork, StackedNetwork, StackedNetwork]
    malignant: MalignantRegression
    classes: ClassRegression
    bands: Bands
    #: None: a person's age makes no difference.
    age: AgeRegression | None = None
    #: Turns a network looks at where nothing else is said.
    test_time_augmentation: Turns = 1
    out_of_distribution: dict[str, JsonValue] | None = None
    metrics: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _all_networks(self) -> Stack:
        if tuple(network.name for network in self.networks) != NETWORKS:
            raise ValueError(f"networks are not {NETWORKS} in this order")
        return self

    @property
    def versions(self) -> Mapping[str, int]:
        """The version of each network that the stack was fitted for."""
        return {network.name: network.version for network in self.networks}

    @property
    def turns(self) -> Mapping[str, int]:
        """In how many turns each network looks at a lesion: a quick one may look more often than a slow one."""
        return {network.name: network.turns or self.test_time_augmentation for network in self.networks}


def load_stack(path: Path) -> Stack:
    """Read `stack.json`.

    Raises:
        ModelMismatchError: the file is missing, malformed or made for other networks.
    """
    try:
        return Stack.model_validate(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError, ValidationError) as error:
        raise ModelMismatchError(f"{path} cannot be used: {error}") from error


def refuse_changed_networks(stack: Stack, models: Path) -> None:
    """Compare the networks in `models` with those the stack was fitted for: a version number may hide another file.

    A network that cannot be read there is passed over: in a cluster the stacker has the stack alone.

    Raises:
        ModelMismatchError: a network is another one under the same version.
    """
    for network in stack.networks:
        file = network_file(models, network.name, network.version)
        try:
            changed = checksum(file) != network.sha256
        except OSError:
            continue
        if changed:
            raise ModelMismatchError(f"the stack was fitted for another file than {file} (sha256)")


def combine(
    stack: Stack, answers: Sequence[NetworkAnswer], *, explain: bool = False, age_years: int | None = None
) -> Result:
    """The calibrated answer of the four networks.

    Args:
        stack: the regression and its thresholds.
        answers: one per network, any order, each over one or more turns of the lesion; turns are averaged in the
            logit (their attention must already be turned back).
        explain: tell also what each network contributed, and where each of them looked.
        age_years: the person's age, where it is known; it counts if the stack has learnt what it means.

    Raises:
        ModelMismatchError: a network is missing or has another version than the stack was fitted for.
    """
    by_name = {answer.name: answer for answer in answers}
    for network in stack.networks:
        answer = by_name.get(network.name)
        if answer is None:
            raise ModelMismatchError(f"{network.name} gave no answer; three networks are not an answer.")
        if answer.version != network.version:
            raise ModelMismatchError(
                f"{network.name} answered as version {answer.version}, the stack is for version {network.version}."
            )
    ordered = [by_name[name] for name in NETWORKS]
    logits = np.array([answer.logit.mean(dtype=np.float64) for answer in ordered])
    features = np.concatenate([_log_softmax(answer.class_logits.mean(axis=0, dtype=np.float64)) for answer in ordered])
    of_picture = float(np.dot(stack.malignant.coefficients, logits)) + stack.malignant.intercept
    age = stack.age.effect(age_years) if stack.age is not None and age_years is not None else AgeEffect()
    probability = _sigmoid(age.logit(of_picture))
    class_logits = np.asarray(stack.classes.coefficients) @ features + np.asarray(stack.classes.intercepts)
    class_probabilities = np.exp(_log_softmax(class_logits))
    return Result(
        probability=probability,
        band=band_of(stack.bands, probability),
        networks=tuple(
            NetworkOpinion(answer.name, answer.version, float(logit), _sigmoid(float(logit)))
            for answer, logit in zip(ordered, logits, strict=True)
        ),
        classes=tuple((name, float(p)) for name, p in zip(CLASSES, class_probabilities, strict=True)),
        attention=_shared_attention([answer.attention for answer in ordered]),
        model_version=stack.version,
        explanation=_explanation(stack, ordered, logits, age) if explain else None,
        without_age=None if age.of_age is None else _sigmoid(of_picture),
    )


def _explanation(stack: Stack, ordered: Sequence[NetworkAnswer], logits: Floats, age: AgeEffect) -> Explanation:
    coefficients = [age.scale * coefficient for coefficient in stack.malignant.coefficients]
    return Explanation(
        intercept=age.scale * stack.malignant.intercept + age.intercept,
        low_below=stack.bands.low_below,
        high_from=stack.bands.high_from,
        networks=tuple(
            NetworkExplanation(
                answer.name, coefficient, coefficient * float(logit), _shared_attention([answer.attention])
            )
            for answer, coefficient, logit in zip(ordered, coefficients, logits, strict=True)
        ),
        of_age=age.of_age,
    )


def band_of(bands: Bands, probability: float) -> Band:
    """The band in words for a calibrated probability (0–1)."""
    if probability < bands.low_below:
        return Band.LOW
    if probability >= bands.high_from:
        return Band.HIGH
    return Band.UNSURE


def _shared_attention(maps: Sequence[NDArray[np.float32]]) -> tuple[tuple[float, ...], ...]:
    """Mean of the networks' class activation maps (Zhou 2016), each `[n,7,7]`, as one 7×7 grid of 0–1.

    Only what speaks for malignancy is kept, and each network is brought to the same scale first, so that the one
    with the largest activations does not paint the map alone.
    """
    total = np.zeros((ATTENTION_SIDE, ATTENTION_SIDE))
    for attention in maps:
        evidence = np.maximum(attention.mean(axis=0, dtype=np.float64), 0)
        peak = evidence.max()
        if peak > 0:
            total += evidence / peak
    peak = total.max()
    grid = total / peak if peak > 0 else total
    return tuple(tuple(round(float(value), 4) for value in row) for row in grid)


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max()
    result: Floats = shifted - np.log(np.exp(shifted).sum())
    return result


def _sigmoid(logit: float) -> float:
    # Clipped where a float64 sigmoid is 0 or 1 anyway: an exponential of more would overflow.
    return float(1 / (1 + np.exp(-np.clip(logit, -700, 700))))
