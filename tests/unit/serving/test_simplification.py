"""A crop of which single pixels are pooled is one slice, with the same numbers; everything else stays as it is."""

from pathlib import Path

import numpy as np
import openvino
import openvino.opset13 as operations
import pytest

from serving.embedded.simplification import simplify

SIZE, CHANNELS = 9, 4
NASNETMOBILE = Path(__file__).resolve().parents[3] / "serving/models/nasnetmobile/1"
OPEN = {"begin_mask": [1, 0, 0, 1], "end_mask": [1, 1, 1, 1]}


def network(begin=(0, 1, 1, 0), end=(0, 0, 0, 0), steps=(1, 1, 1, 1), masks=OPEN, kernel=1, stride=2, rounding="floor"):
    """As NASNetMobile halves a picture, with a padding before it."""
    picture = operations.parameter([1, CHANNELS, SIZE, SIZE], np.float32)
    padded = operations.pad(picture, [0, 0, 0, 0], [0, 0, 1, 1], "constant", 0.0)
    last = operations.transpose(padded, [0, 2, 3, 1])
    crop = operations.strided_slice(last, list(begin), list(end), list(steps), **masks)
    first = operations.transpose(crop, [0, 3, 1, 2])
    pooled = operations.avg_pool(
        first, [stride, stride], [0, 0], [0, 0], [kernel, kernel], exclude_pad=True, rounding_type=rounding
    )
    return openvino.Model([pooled], [picture], "small")


def kinds(model):
    return [node.get_type_name() for node in model.get_ordered_ops()]


def answers(model, picture):
    (answer,) = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(picture).values()
    return np.asarray(answer)


@pytest.fixture
def picture():
    return np.random.default_rng(8).normal(0, 1, (1, CHANNELS, SIZE, SIZE)).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("corner", [(1, 1), (0, 2), (3, 0)])
def test_the_slice_gives_the_same_numbers(picture, corner, stride):
    plain, simple = (network(begin=(0, *corner, 0), stride=stride) for _ in range(2))
    assert simplify(simple) == 1
    assert not {"Transpose", "AvgPool", "StridedSlice"} & set(kinds(simple))
    assert np.array_equal(answers(plain, picture), answers(simple, picture))


@pytest.mark.parametrize(
    "other",
    [
        {"kernel": 2},  # pools more than single pixels
        {"end": (0, 5, 5, 0), "masks": {"begin_mask": [1, 0, 0, 1], "end_mask": [1, 0, 0, 1]}},  # ends early
        {"steps": (1, 2, 1, 1)},
        {"rounding": "ceil"},  # may pool where the picture has ended
        {
            "begin": (0, 1, 1),
            "end": (0, 0, 0),
            "steps": (1, 1, 1),
            "masks": {"begin_mask": [1, 0, 0], "end_mask": [1, 1, 1]},
        },
        {"begin": (0, -3, 1, 0)},  # counts from the end
        {"begin": (0, 1, 1, 2), "masks": {"begin_mask": [1, 0, 0, 0], "end_mask": [1, 1, 1, 1]}},  # drops channels
    ],
)
def test_anything_else_stays_as_it_is(other):
    model = network(**other)
    before = kinds(model)
    assert simplify(model) == 0
    assert kinds(model) == before


def test_a_crop_that_somebody_else_reads_stays_as_it_is():
    model = network()
    crop = next(node for node in model.get_ordered_ops() if node.get_type_name() == "StridedSlice")
    model.add_outputs([crop.output(0)])
    assert simplify(model) == 0


def test_nasnetmobile_halves_four_times():
    model = openvino.Core().read_model(NASNETMOBILE)
    assert simplify(model) == 4
