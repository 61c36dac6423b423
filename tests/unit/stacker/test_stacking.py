"""How four opinions become one answer."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.analysis.errors import ModelMismatchError
from services.analysis.results import CLASSES, NETWORKS, Band
from services.stacker.stacking import Stack, band_of, combine, load_stack, refuse_changed_networks
from serving.answers import NetworkAnswer


def stack_document(**changes: Any) -> dict[str, Any]:
    """A stack that means the four opinions and believes in temperature 1."""
    return {
        "version": "7",
        "networks": [{"name": name, "version": 3, "sha256": "0" * 64} for name in NETWORKS],
        "malignant": {"coefficients": [0.25] * 4, "intercept": 0.0},
        "classes": {
            "names": list(CLASSES),
            "coefficients": [[0.25 * (column % 7 == row) for column in range(28)] for row in range(7)],
            "intercepts": [0.0] * 7,
        },
        "bands": {
            "low_below": 0.2,
            "high_from": 0.6,
            "sensitivity_low": 0.95,
            "sensitivity_high": 0.9,
            "measured_on": "validation",
        },
        **changes,
    }


def answer(name: str, logit: float = 0.0, version: int = 3, turns: int = 1) -> NetworkAnswer:
    class_logits = np.zeros((turns, 7), np.float32)
    class_logits[:, 1] = 2.0
    return NetworkAnswer(
        name=name,
        version=version,
        logit=np.full(turns, logit, np.float32),
        class_logits=class_logits,
        attention=np.ones((turns, 7, 7), np.float32),
        embedding=None,
    )


def answers(*logits: float, **options: int) -> list[NetworkAnswer]:
    return [answer(name, logit, **options) for name, logit in zip(NETWORKS, logits, strict=True)]


STACK = Stack.model_validate(stack_document())


def test_the_probability_is_the_sigmoid_of_the_regression() -> None:
    stack = Stack.model_validate(stack_document(malignant={"coefficients": [1.0, 2.0, 3.0, 4.0], "intercept": 0.5}))
    result = combine(stack, answers(0.1, 0.2, 0.3, -0.4))
    assert result.probability == pytest.approx(1 / (1 + math.exp(-(0.1 + 0.4 + 0.9 - 1.6 + 0.5))))


def test_the_order_in_which_networks_answered_does_not_matter() -> None:
    opinions = answers(1, 2, 3, 4)
    assert combine(STACK, opinions[::-1]) == combine(STACK, opinions)


def test_turns_are_averaged_in_the_logit() -> None:
    opinions = answers(0, 0, 0, 0, turns=2)
    opinions[0].logit[:] = [1.0, 3.0]
    assert combine(STACK, opinions).networks[0].logit == 2.0


def test_class_probabilities_follow_the_networks() -> None:
    result = combine(STACK, answers(0, 0, 0, 0))
    expected = np.exp([0, 2, 0, 0, 0, 0, 0]) / np.exp([0, 2, 0, 0, 0, 0, 0]).sum()
    assert [name for name, _ in result.classes] == list(CLASSES)
    assert [p for _, p in result.classes] == pytest.approx(expected, abs=1e-6)


def test_three_networks_are_not_an_answer() -> None:
    with pytest.raises(ModelMismatchError, match="nasnetmobile"):
        combine(STACK, answers(0, 0, 0, 0)[:3])


def test_a_network_of_another_version_is_refused() -> None:
    opinions = answers(0, 0, 0, 0)
    opinions[2] = answer(NETWORKS[2], version=4)
    with pytest.raises(ModelMismatchError, match="densenet169 answered as version 4"):
        combine(STACK, opinions)


@given(st.lists(st.floats(-1e4, 1e4), min_size=4, max_size=4))
def test_every_finite_opinion_gives_probabilities(logits: list[float]) -> None:
    result = combine(STACK, answers(*logits))
    assert 0 <= result.probability <= 1
    assert sum(p for _, p in result.classes) == pytest.approx(1)


def test_attention_is_what_speaks_for_malignancy_between_0_and_1() -> None:
    opinions = answers(0, 0, 0, 0)
    for opinion in opinions:
        opinion.attention[:] = -1.0
    opinions[0].attention[0, 2, 3] = 50.0
    opinions[1].attention[0, 2, 3] = 0.5
    opinions[1].attention[0, 6, 6] = 0.25
    attention = np.array(combine(STACK, opinions).attention)
    assert attention[2, 3] == 1
    assert attention[6, 6] == pytest.approx(0.25), "a network with large activations must not drown the others"
    assert np.count_nonzero(attention) == 2


def test_no_attention_at_all_is_a_blank_map() -> None:
    opinions = answers(0, 0, 0, 0)
    for opinion in opinions:
        opinion.attention[:] = -1.0
    assert not np.any(combine(STACK, opinions).attention)


@pytest.mark.parametrize(
    ("probability", "band"),
    [
        (0.0, Band.LOW),
        (0.199, Band.LOW),
        (0.2, Band.UNSURE),
        (0.599, Band.UNSURE),
        (0.6, Band.HIGH),
        (1.0, Band.HIGH),
    ],
)
def test_bands_are_closed_below(probability: float, band: Band) -> None:
    assert band_of(STACK.bands, probability) is band


@pytest.mark.parametrize(
    "changes",
    [
        {"networks": stack_document()["networks"][::-1]},
        {"networks": stack_document()["networks"][:3]},
        {"malignant": {"coefficients": [1.0] * 3, "intercept": 0.0}},
        {"malignant": {"coefficients": [1.0, 1.0, 1.0, float("nan")], "intercept": 0.0}},
        {"classes": {**stack_document()["classes"], "names": list(CLASSES[::-1])}},
        {"classes": {**stack_document()["classes"], "intercepts": [0.0] * 6}},
        {"bands": {**stack_document()["bands"], "low_below": 0.9}},
        {"test_time_augmentation": 3},
        {"age": {"scale": 0.9, "per_decade": 0.25, "intercept": -0.2, "from_years": 85, "to_years": 20}},
        {"age": {"scale": 0.0, "per_decade": 0.25, "intercept": -0.2, "from_years": 20, "to_years": 85}},
    ],
)
def test_a_stack_that_does_not_fit_refuses_to_load(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "stack.json"
    path.write_text(json.dumps(stack_document(**changes)))
    with pytest.raises(ModelMismatchError, match=r"stack\.json"):
        load_stack(path)


def test_a_missing_stack_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ModelMismatchError, match="cannot be used"):
        load_stack(tmp_path / "stack.json")


def test_a_network_that_can_be_read_is_the_one_that_the_stack_was_fitted_for(tmp_path: Path) -> None:
    document = stack_document()
    document["networks"][1]["sha256"] = hashlib.sha256(b"fitted").hexdigest()
    stack = Stack.model_validate(document)
    refuse_changed_networks(stack, tmp_path)  # in a cluster the stack lies there alone

    file = tmp_path / NETWORKS[1] / "3" / "saved_model.pb"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"fitted")
    refuse_changed_networks(stack, tmp_path)

    file.write_bytes(b"trained anew")
    with pytest.raises(ModelMismatchError, match=f"another file than {file}"):
        refuse_changed_networks(stack, tmp_path)


def test_an_explanation_adds_up_to_the_probability_and_keeps_every_networks_own_map():
    stack = Stack.model_validate(stack_document(malignant={"coefficients": [0.4, 0.3, 0.5, -0.1], "intercept": -0.9}))
    given = answers(1.0, -2.0, 0.5, 3.0)
    given[0].attention[:] = 0
    given[0].attention[:, 2, 3] = 5

    result = combine(stack, given, explain=True)

    explanation = result.explanation
    assert [network.name for network in explanation.networks] == list(NETWORKS)
    assert [network.contribution for network in explanation.networks] == pytest.approx([0.4, -0.6, 0.25, -0.3])
    logit = explanation.intercept + sum(network.contribution for network in explanation.networks)
    assert result.probability == pytest.approx(1 / (1 + math.exp(-logit)))
    assert (explanation.low_below, explanation.high_from) == (0.2, 0.6)
    own = np.array(explanation.networks[0].attention)
    assert own[2, 3] == 1
    assert own.sum() == 1
    assert combine(stack, given).explanation is None


#: Learnt from people of 20 to 85 years.
AGE = {"scale": 0.9, "per_decade": 0.25, "intercept": -0.2, "from_years": 20, "to_years": 85}
WITH_AGE = Stack.model_validate(
    stack_document(malignant={"coefficients": [0.4, 0.3, 0.5, -0.1], "intercept": -0.9}, age=AGE)
)


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_the_age_counts_in_the_probability_and_without_it_stands_what_the_picture_says() -> None:
    given = answers(1.0, -2.0, 0.5, 3.0)
    of_picture = combine(WITH_AGE, given)
    at_seventy = combine(WITH_AGE, given, age_years=70)
    assert logit(at_seventy.probability) == pytest.approx(0.9 * logit(of_picture.probability) + 0.25 * 2 - 0.2)
    assert at_seventy.without_age == of_picture.probability
    assert of_picture.without_age is None


def test_older_people_than_those_learnt_from_count_as_the_oldest_of_them() -> None:
    given = answers(1.0, -2.0, 0.5, 3.0)
    assert combine(WITH_AGE, given, age_years=120) == combine(WITH_AGE, given, age_years=85)
    assert combine(WITH_AGE, given, age_years=20).probability < combine(WITH_AGE, given, age_years=85).probability


def test_an_age_below_those_learnt_from_lowers_no_answer() -> None:
    given = answers(1.0, -2.0, 0.5, 3.0)
    assert combine(WITH_AGE, given, age_years=19, explain=True) == combine(WITH_AGE, given, explain=True)


def test_a_stack_that_has_not_learnt_what_an_age_means_makes_nothing_of_it() -> None:
    given = answers(1.0, -2.0, 0.5, 3.0)
    assert combine(STACK, given, age_years=70) == combine(STACK, given)


def test_the_age_moves_the_band_and_the_diagnoses_stay_the_photograph_s() -> None:
    given = answers(-0.5, -0.5, -0.5, -0.5)
    young, old = (combine(WITH_AGE, given, age_years=age) for age in (20, 85))
    assert (young.band, old.band) == (Band.LOW, Band.UNSURE)
    assert young.classes == old.classes == combine(WITH_AGE, given).classes


def test_an_explanation_with_age_adds_up_and_says_what_the_age_added() -> None:
    result = combine(WITH_AGE, answers(1.0, -2.0, 0.5, 3.0), explain=True, age_years=70)
    explanation = result.explanation
    assert explanation.of_age == pytest.approx(0.5)
    contributions = sum(network.contribution for network in explanation.networks)
    assert logit(result.probability) == pytest.approx(explanation.intercept + contributions + explanation.of_age)
    assert combine(WITH_AGE, answers(1, 1, 1, 1), explain=True).explanation.of_age is None
