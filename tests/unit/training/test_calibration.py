"""The quickest mixture that passes is taken; what cannot pass is not offered."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.embedded.precision import Precision, Source
from training.calibration import Cost, Variant, _Judge, lines, undisturbed, wide_part

NAMES = ("a", "b")
CONTENT = {
    "malignant": {"coefficients": [1.0, 0.1], "intercept": 0.0},
    "classes": {"coefficients": [[0.0] * 14] * 7, "intercepts": [0.0] * 7},
    "bands": {"low_below": 0.4, "high_from": 0.6},
}


def variant(precision, ms, noise, seed):
    """A network whose class logits are those of everybody else and some noise."""
    logits = np.random.default_rng(0).normal(0, 2, (1, 400, 7))
    logits = logits + np.random.default_rng(seed).normal(0, noise, logits.shape)
    return Variant(precision, Source(Path("x"), "f32"), logits, ms)


@pytest.fixture
def judge():
    (logits,) = variant(Precision.F32, 1, 0, 0).class_logits
    malignant = logits[:, [0, 2, 3]].max(axis=1) > np.median(logits[:, [0, 2, 3]].max(axis=1))
    judge = _Judge(CONTENT, NAMES, malignant)
    judge.plain = {name: variant(Precision.F32, 20.0, 0, 0) for name in NAMES}
    return judge


def test_the_network_that_makes_most_noise_is_computed_in_more_bits(judge):
    rough = {name: [variant(Precision.INT8, 5.0, 0.5, n), judge.plain[name]] for n, name in enumerate(NAMES)}
    rough["b"][0] = variant(Precision.INT8, 5.0, 0.02, 9)
    chosen, cost, undiluted = judge.quickest(rough)
    assert not undiluted.passes
    assert cost.passes
    assert (chosen["a"].precision, chosen["b"].precision) == (Precision.F32, Precision.INT8)


def test_of_all_mixtures_that_pass_the_quickest_is_taken(judge):
    rough = {
        "a": [variant(Precision.INT8, 5.0, 0.5, 1), variant(Precision.BF16, 8.0, 0.01, 2), judge.plain["a"]],
        "b": [variant(Precision.INT8, 5.0, 0.02, 9), variant(Precision.BF16, 8.0, 0.0, 3), judge.plain["b"]],
    }
    chosen, cost, _ = judge.quickest(rough)
    assert cost.passes
    assert (chosen["a"].precision, chosen["b"].precision) == (Precision.BF16, Precision.INT8)


def test_what_changes_nothing_stays_as_quick_as_it_is(judge):
    quick = {name: [variant(Precision.BF16, 5.0, 0.0, 0), judge.plain[name]] for name in NAMES}
    chosen, cost, undiluted = judge.quickest(quick)
    assert cost == undiluted == Cost(auc=cost.auc, auc_fall=0.0, bands_changed=0.0)
    assert {each.precision for each in chosen.values()} == {Precision.BF16}


def test_what_differs_by_turns_alone_counts_as_the_service_averages_it(judge):
    there_and_back = judge.plain["a"].class_logits + np.array([[[0.5]], [[-0.5]]]) * np.arange(7)
    turns = {
        name: replace(plain, class_logits=np.repeat(plain.class_logits, 2, axis=0))
        for name, plain in judge.plain.items()
    }
    judge.plain = turns
    assert judge.cost({**turns, "a": replace(turns["a"], class_logits=there_and_back)}).bands_changed < 0.1
    one_way = replace(turns["a"], class_logits=turns["a"].class_logits + 0.5 * np.arange(7))
    assert judge.cost({**turns, "a": one_way}).bands_changed > 0.1


@pytest.mark.parametrize(("fall", "changed", "passes"), [(0.002, 0.01, True), (0.0021, 0, False), (0, 0.011, False)])
def test_the_bounds_are_those_that_are_promised(fall, changed, passes):
    assert Cost(auc=0.9, auc_fall=fall, bands_changed=changed).passes is passes


def test_the_report_says_what_it_found():
    measured = {
        "offered": False,
        "networks": {"a": "f32"},
        "auc": 0.9,
        "auc_fall": 0.02,
        "bands_changed": 0.14,
        "all_networks_in_it": {"auc_fall": 0.02, "bands_changed": 0.14},
        "ensemble_ms": 25.0,
    }
    told = "\n".join(lines({"images": 400, "precisions": {"int8": measured}}))
    assert "not offered" in told
    assert "14.00%" in told


def test_what_stays_wide_is_the_worst_that_fits_into_its_share_of_the_work():
    work = [10, 40, 30, 20]
    assert wide_part([3, 0, 1, 2], work, 0.0) == set()
    assert wide_part([3, 0, 1, 2], work, 0.3) == {3, 0}
    assert wide_part([3, 0, 1, 2], work, 0.69) == {3, 0}
    assert wide_part([3, 0, 1, 2], work, 1.0) == {0, 1, 2, 3}


@pytest.mark.skipif(importlib.util.find_spec("nncf") is None, reason="nncf is not installed (Python 3.12 and later)")
def test_ranges_are_whole_and_the_convolution_that_8_bits_hurt_most_comes_first(tmp_path):
    # nncf warns about itself while it is imported, and this suite makes errors of warnings: a process of its own.
    script = f"""
from pathlib import Path
import numpy as np, openvino
import openvino.opset13 as ops
from serving.embedded.graph import read_graph
from serving.embedded.precision import Source
from serving.embedded.quantisation import convolutions
from training.calibration import ranges_of, worst_first

random = np.random.default_rng(3)
def kernel(*shape):
    return ops.constant(random.normal(0, 0.3, shape).astype(np.float32))
ends = dict(strides=[1, 1], pads_begin=[1, 1], pads_end=[1, 1], dilations=[1, 1])
image = ops.parameter([-1, 16, 16, 3], np.uint8)
scaled = ops.divide(ops.convert(image, "f32"), ops.constant(np.float32(255)))
first = ops.relu(ops.convolution(ops.transpose(scaled, [0, 3, 1, 2]), kernel(8, 3, 3, 3), **ends))
each = ops.relu(ops.group_convolution(first, kernel(8, 1, 1, 3, 3), **ends))
last = ops.relu(ops.convolution(each, kernel(8, 8, 3, 3), **ends))
logits = ops.matmul(ops.reduce_mean(last, [2, 3]), kernel(8, 7), False, False)
logits.output(0).get_tensor().set_names({{"class_logits"}})
network = Path({str(tmp_path)!r}) / "network.xml"
openvino.save_model(openvino.Model([logits], [image]), network)

images = list(random.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8))
images[7] = images[7] // 200 * 255  # one that reaches further than the others
ranges = ranges_of(network, images)
model = read_graph(openvino.Core(), Source(network, "f32"))
model.add_outputs([node.input_value(0) for node in convolutions(model)])
compiled = openvino.Core().compile_model(model, "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
met = [list(compiled(square[None]).values())[-2:] for square in images]
for place, values in enumerate(zip(*met, strict=True)):
    reach = np.max(values)
    assert abs(ranges[place][1] - reach) < 0.02 * reach, (ranges, reach)
    assert abs(ranges[place][0] - np.min(values)) < 0.02 * reach
assert sorted(ranges) == [0, 1], "and none where each channel is by itself"
assert worst_first(network, {{**ranges, 0: (0.0, 500.0)}}, images) == [0, 1]
assert worst_first(network, {{**ranges, 1: (0.0, 5000.0)}}, images) == [1, 0]
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=170)


def test_a_variant_that_was_measured_on_a_busy_machine_is_as_quick_as_it_was_between():
    assert undisturbed([0.010] * 30 + [0.035] * 70) == pytest.approx(0.010)
    assert undisturbed([0.001] + [0.010] * 99) == pytest.approx(0.010), "one lucky look is no time"
