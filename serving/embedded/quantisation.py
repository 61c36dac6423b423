"""Convolutions in 8 bits: what is needed beside the network's own kernels is the range of what goes into each.

Only convolutions are quantised, and not those that look at one channel each: these take little of the time, and with a
few weights for each output they would make most of the noise. A kernel's own range, one for each of its outputs, is in
the network, so a SavedModel and a short list of ranges make the 8-bit network; there is no second file of weights. How
ranges are found: `training.calibration`. The scheme is Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference" (2018); OpenVINO turns its places into integer arithmetic.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import openvino
import openvino.opset13 as operations
from numpy.typing import NDArray

#: What goes into a convolution, lowest and highest value, by the convolution's place in the network.
Ranges = Mapping[int, tuple[float, float]]

#: Steps of an activation, which has 8 bits without a sign, and of a weight, which has a sign and no −128.
_ACTIVATION_LEVELS: Final = 256
_WEIGHT_LEVELS: Final = 255
#: A kernel of nothing but zeros has no range.
_LEAST_RANGE: Final = 1e-8


def convolutions(model: openvino.Model) -> list[Any]:
    """The convolutions that may be quantised, in an order that one OpenVINO keeps for one network."""
    return [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]


def quantise(model: openvino.Model, ranges: Ranges) -> None:
    """Have the convolutions at the places in `ranges` compute in 8 bits; all others stay as they are.

    Raises:
        IndexError: a place that this network does not have.
        ValueError: a kernel that is no constant.
    """
    places = convolutions(model)
    chosen = [(places[place], low, high) for place, (low, high) in sorted(ranges.items())]
    for node, low, high in chosen:
        node.input(0).replace_source_output(_rounded(node.input_value(0), low, high, _ACTIVATION_LEVELS))
        kernel = _kernel(node)
        reach = np.maximum(np.abs(kernel).max(axis=(1, 2, 3), keepdims=True), _LEAST_RANGE)
        weights = operations.constant(kernel).output(0)
        node.input(1).replace_source_output(_rounded(weights, -reach, reach, _WEIGHT_LEVELS))


def _kernel(convolution: Any) -> NDArray[np.float32]:
    """The weights, [outputs, inputs, height, width]; they are stored in half precision behind a cast."""
    stored = convolution.input_value(1).get_node()
    if stored.get_type_name() == "Convert":
        stored = stored.input_value(0).get_node()
    if stored.get_type_name() != "Constant":
        raise ValueError(f"the kernel of {convolution.get_friendly_name()} is computed, not constant")
    return np.asarray(stored.get_data(), dtype=np.float32)


def _rounded(value: Any, low: Any, high: Any, levels: int) -> Any:
    ends = [operations.constant(np.asarray(end, np.float32)) for end in (low, high)]
    return operations.fake_quantize(value, *ends, *ends, levels).output(0)
