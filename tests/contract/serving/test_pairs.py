"""A network that is often shown several images is compiled for two at once."""

from __future__ import annotations

import numpy as np
import openvino
import pytest

from serving.embedded.engine import Engine
from tests.contract.serving.conftest import NETWORK


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(5).integers(0, 256, (5, 224, 224, 3), np.uint8)


@pytest.fixture
def engine(model_folder):
    def made(pairs_after):
        version = max(int(entry.name) for entry in model_folder.iterdir() if entry.name.isdecimal())
        return Engine(NETWORK, version, model_folder / str(version), openvino.Core(), 1, pairs_after=pairs_after)

    return made


class Steps:
    """Counts how often an engine asks whether to go on."""

    def __init__(self, until=99):
        self.taken = 0
        self.until = until

    def __call__(self):
        self.taken += 1
        return self.taken <= self.until


def test_after_some_pairs_two_images_are_one_step_and_the_answers_stay(engine, pictures):
    network = engine(pairs_after=3)
    first, later = Steps(), Steps()

    one_by_one = network.infer(pictures, first)
    network.settle()
    assert first.taken == 5, "two pairs are too few"
    network.infer(pictures)
    network.settle()
    in_pairs = network.infer(pictures, later)

    assert later.taken == 3, "two pairs and the one that is left"
    assert set(in_pairs) == set(one_by_one)
    for name, values in one_by_one.items():
        np.testing.assert_allclose(in_pairs[name], values, rtol=1e-4, atol=1e-4, err_msg=name)


def test_single_images_never_call_for_pairs(engine, pictures):
    network, steps = engine(pairs_after=1), Steps()
    for _ in range(4):
        network.infer(pictures[:1])
    network.settle()

    network.infer(pictures[:3], steps)

    assert steps.taken == 3


def test_a_caller_who_has_gone_ends_the_work_between_two_pairs(engine, pictures):
    network = engine(pairs_after=1)
    network.infer(pictures)
    network.settle()

    assert network.infer(pictures, Steps(until=1)) == {}


def test_what_cannot_be_compiled_for_pairs_goes_on_one_by_one(engine, pictures, monkeypatch, caplog):
    def fails(*_):
        raise RuntimeError("no such kernel")

    network, steps = engine(pairs_after=1), Steps()
    monkeypatch.setattr(openvino.Core, "compile_model", fails)
    network.infer(pictures)
    network.settle()

    assert len(network.infer(pictures, steps)["logit"]) == steps.taken == 5
    assert "one by one" in caplog.text
