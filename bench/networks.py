"""Each network and the ensemble at batch 1, 8 and 32: TensorFlow, ONNX Runtime and our engine in each precision."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from bench.contestants.process import Contestant
from bench.machine import Machine
from bench.measuring import in_turns, ms, timed, warmed
from serving.answers import NETWORKS
from serving.embedded.precision import Precision, capabilities, offered
from serving.model_files import network_file

#: Images at a time → rounds: the first is what one person waits for, the others what a hospital's archive is worth.
ROUNDS = {1: 21, 8: 5, 32: 1}
#: A convolution of the size that DenseNets are made of in the middle, where nothing but multiply-adds counts.
_PEAK_SIDE, _PEAK_CHANNELS = 28, 512


def measure(machine: Machine) -> Mapping[str, Any]:
    """Median milliseconds, images a second, and GFLOP/s against what a bare convolution reaches in the same run."""
    files = {name: network_file(machine.models, name, version) for name, version in machine.versions.items()}
    flops = {name: multiply_adds(file.parent) * 2 for name, file in files.items()}
    precisions = _precisions(machine)
    names = ["tensorflow", "onnxruntime", *precisions]
    with ExitStack() as running:
        contestants = {name: running.enter_context(Contestant(name, machine)) for name in names}
        peaks = {name: peak(name) for name in precisions if name != Precision.AUTO}
        alone = {
            network: in_turns(
                {name: warmed(each.turn([network], 1)) for name, each in contestants.items()}, machine.rounds(11)
            )
            for network in NETWORKS
        }
        ensemble, reached = {}, dict.fromkeys(peaks, 0.0)
        for batch, rounds in ROUNDS.items():
            turns = {name: each.turn(NETWORKS, batch) for name, each in contestants.items()}
            if batch == 1:  # the peak takes its turns among the contestants: clocks change with heat
                turns |= {f"peak {name}": timed(run) for name, (run, _) in peaks.items()}
                turns = {name: warmed(turn) for name, turn in turns.items()}
            taken = in_turns(turns, min(rounds, machine.rounds(rounds)))
            for name, (_, work) in peaks.items():
                reached[name] = max(reached[name], work / taken.pop(f"peak {name}", float("inf")) / 1e9)
            ensemble[batch] = taken
    total = sum(flops.values())
    return {
        "offered": [str(precision) for precision in offered(machine.calibrated, machine.models)],
        "gflop_per_image": {name: round(count / 1e9, 2) for name, count in flops.items()},
        "peak_gflops": {name: round(rate) for name, rate in reached.items()},
        "alone_batch_1_ms": {network: _milliseconds(taken) for network, taken in alone.items()},
        "ensemble_ms": {str(batch): _milliseconds(taken) for batch, taken in ensemble.items()},
        "times_tensorflow": {
            str(batch): {name: round(taken["tensorflow"] / seconds, 2) for name, seconds in taken.items()}
            for batch, taken in ensemble.items()
        },
        "ensemble_batch_1_gflops": {name: round(total / s / 1e9) for name, s in ensemble[1].items()},
        "share_of_peak": {
            name: round(total / ensemble[1][name] / 1e9 / reached[name], 2) for name in peaks if name in ensemble[1]
        },
    }


def _precisions(machine: Machine) -> list[str]:
    """All that this processor computes quickly, int8 where it is offered, and what is taken of it by default."""
    found = [str(Precision.F32)]
    if "BF16" in capabilities():
        found.append(str(Precision.BF16))
    possible = offered(machine.calibrated, machine.models)
    if Precision.INT8 in possible:
        found.append(str(Precision.INT8))
    if len(possible) > 1:
        found.append(str(Precision.AUTO))
    return found


def _milliseconds(taken: Mapping[str, float]) -> dict[str, float]:
    return {name: ms(seconds) for name, seconds in taken.items()}


def multiply_adds(folder: Any) -> int:
    """Multiply-adds of one image, of convolutions and matrix products; the rest is below a hundredth."""
    model = openvino.Core().read_model(folder)
    model.reshape([1, 224, 224, 3])
    total = 0
    for node in model.get_ops():
        kind = node.get_type_name()
        if kind not in ("Convolution", "GroupConvolution", "MatMul"):
            continue
        outputs = int(np.prod(node.output(0).shape))
        weights = list(node.input_value(1).shape)
        if kind == "Convolution":  # [out, in, h, w]
            each = int(np.prod(weights[1:]))
        elif kind == "GroupConvolution":  # [groups, out, in, h, w]
            each = int(np.prod(weights[2:]))
        else:
            each = int(list(node.input_value(0).shape)[-1])
        total += outputs * each
    return total


def peak(precision: str) -> tuple[Any, int]:
    """A call of oneDNN's 3 × 3 convolution on all cores, by way of OpenVINO, and its floating-point operations."""
    side, channels = _PEAK_SIDE, _PEAK_CHANNELS
    random = np.random.default_rng(0)
    image = ops.parameter([1, channels, side, side], np.float32)
    kernel = random.normal(0, 0.02, (channels, channels, 3, 3)).astype(np.float32)
    source, weights = image, ops.constant(kernel)
    if precision == Precision.INT8:
        # As nncf writes it: 8 bits without a sign for what goes in, with one for the weights.
        low, high = np.float32(0), np.float32(4)
        source = ops.fake_quantize(image, low, high, low, high, 256)
        bound = np.float32(0.08)
        weights = ops.fake_quantize(weights, -bound, bound, -bound, bound, 255)
    node = ops.relu(ops.convolution(source, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    # Several in a row, so that the way in and out does not count.
    depth = 4
    for _ in range(depth - 1):
        step = node
        if precision == Precision.INT8:
            step = ops.fake_quantize(node, low, high, low, high, 256)
        node = ops.relu(ops.convolution(step, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
    hint = "bf16" if precision == Precision.BF16 else "f32"
    compiled = openvino.Core().compile_model(
        openvino.Model([node], [image]), "CPU", {"INFERENCE_PRECISION_HINT": hint, "ENABLE_CPU_PINNING": False}
    )
    request = compiled.create_infer_request()
    data = random.random((1, channels, side, side), np.float32)
    work = depth * 2 * channels * channels * 9 * side * side
    return (lambda: request.infer({0: data})), work
