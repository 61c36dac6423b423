"""A bilinear resize by a ratio of small whole numbers is two steps, with the same numbers; others stay as they are."""

from pathlib import Path

import numpy as np
import openvino
import openvino.opset13 as operations
import pytest

from serving.embedded.graph import read_graph
from serving.embedded.precision import Source
from serving.embedded.shrinking import split_shrinkings

MODELS = Path(__file__).resolve().parents[3] / "serving/models"


def network(before=(56, 56), after=(40, 40), pixels=np.uint8, channels=3, mode="linear_onnx", **how):
    """As a network begins that looks at a smaller picture than it is given."""
    picture = operations.parameter([1, *before, channels], pixels)
    resized = operations.interpolate(
        operations.convert(picture, np.float32),
        list(after),
        mode,
        "sizes",
        axes=[1, 2],
        **{"coordinate_transformation_mode": "half_pixel", **how},
    )
    return openvino.Model([operations.multiply(resized, np.float32(1 / 255))], [picture], "small")


def kinds(model):
    return [node.get_type_name() for node in model.get_ordered_ops()]


def answers(model, picture, precision="f32"):
    (answer,) = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})(picture).values()
    return np.asarray(answer)


def picture(shape):
    return np.random.default_rng(8).integers(0, 256, (1, *shape), np.uint8)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((56, 56), (48, 48)),
        ((56, 56), (40, 40)),
        ((56, 56), (32, 32)),
        ((56, 56), (28, 28)),
        ((56, 56), (56, 40)),
        ((30, 42), (11, 36)),  # rows may shrink by any ratio
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_two_steps_give_the_same_numbers(before, after, channels):
    plain, split = (network(before, after, channels=channels) for _ in range(2))
    assert split_shrinkings(split) == 1
    shown = picture((*before, channels))
    assert np.allclose(
        answers(plain, shown), answers(split, shown), rtol=0, atol=5e-6
    )  # of 1; OpenVINO computes places in f32


def test_in_bf16_they_round_no_more_than_a_pixel_of_8_bits_is_rounded_anyway():
    plain, split = network((56, 56), (48, 48)), network((56, 56), (48, 48))
    split_shrinkings(split)
    shown = picture((56, 56, 3))
    apart = answers(split, shown, "bf16") - answers(plain, shown)
    assert np.sqrt(np.mean(apart**2)) < 0.5 / 255


@pytest.mark.parametrize(
    "other",
    [
        {"after": (64, 64)},  # larger: a column counts in two blocks
        {"after": (41, 41)},  # no ratio of small numbers
        {"pixels": np.float32},  # may lie between 0 and 1, and far from 128
        {"mode": "nearest"},
        {"mode": "cubic"},
        {"antialias": True},
        {"coordinate_transformation_mode": "align_corners"},
        {"pads_begin": [0, 1, 1, 0]},
    ],
)
def test_anything_else_stays_as_it_is(other):
    model = network(**other)
    before = kinds(model)
    assert split_shrinkings(model) == 0
    assert kinds(model) == before


def test_a_resize_of_something_computed_stays_as_it_is():
    pixels = operations.parameter([1, 56, 56, 3], np.uint8)
    computed = operations.exp(operations.convert(pixels, np.float32))
    resized = operations.interpolate(
        computed, [40, 40], "linear_onnx", "sizes", axes=[1, 2], coordinate_transformation_mode="half_pixel"
    )
    assert split_shrinkings(openvino.Model([resized], [pixels], "small")) == 0


@pytest.mark.parametrize("name", ["densenet121", "densenet169", "nasnetmobile"])
def test_the_published_networks_shrink_in_two_steps(name):
    core = openvino.Core()
    folder = MODELS / name / "1"
    plain, split = core.read_model(folder), read_graph(core, Source(folder, "f32"))
    plain.reshape([1, 224, 224, 3])
    # The picture, then the attention map: two axes at once, or rows alone.
    assert [resized_axes(model) for model in (plain, split)] == [[2, 2], [1, 2]]
    shown = picture((224, 224, 3))
    logits = [core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(shown) for model in (plain, split)]
    for ours, theirs in zip(*(answer.values() for answer in logits), strict=True):
        assert np.allclose(ours, theirs, atol=1e-4)


def resized_axes(model):
    resizes = [node for node in model.get_ordered_ops() if node.get_type_name() == "Interpolate"]
    return [len(np.ravel(resize.input_value(2).get_node().get_data())) for resize in resizes]
