"""Convolutions compute in 8 bits where there is a range for what goes into them, and nowhere else."""

import numpy as np
import openvino
import openvino.opset13 as operations
import pytest

from serving.embedded.quantisation import convolutions, quantise

SIZE = 32


def network():
    """Two convolutions and one that looks at each channel by itself, 16 channels wide."""
    random = np.random.default_rng(3)

    def kernel(*shape):
        return operations.constant(random.normal(0, 0.1, shape).astype(np.float32))

    image = operations.parameter([1, 16, SIZE, SIZE], np.float32)
    ends = {"strides": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1], "dilations": [1, 1]}
    first = operations.relu(operations.convolution(image, kernel(16, 16, 3, 3), **ends))
    each = operations.relu(operations.group_convolution(first, kernel(16, 1, 1, 3, 3), **ends))
    return openvino.Model([operations.convolution(each, kernel(16, 16, 3, 3), **ends)], [image], "small")


def compiled(ranges):
    model = network()
    quantise(model, ranges)
    return on_this_processor(model)


def on_this_processor(model):
    return openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def types(network):
    """What each convolution computes in, in order."""
    told = [node.get_rt_info() for node in network.get_runtime_model().get_ordered_ops()]
    return [str(info["runtimePrecision"].value) for info in told if info["layerType"].value == "Convolution"]


@pytest.fixture
def image():
    return np.random.default_rng(5).normal(0, 1, (1, 16, SIZE, SIZE)).astype(np.float32)


def ranges_met(image):
    model = network()
    model.add_outputs([node.input_value(0) for node in convolutions(model)])
    met = list(on_this_processor(model)(image).values())[-2:]
    return {place: (float(values.min()), float(values.max())) for place, values in enumerate(met)}


@pytest.mark.skipif(
    "INT8" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), reason="this processor has no int8"
)
def test_what_has_a_range_computes_in_8_bits_and_answers_nearly_the_same(image):
    plain, rough = compiled({}), compiled(ranges_met(image))
    assert set(types(plain)) == {"f32"}
    assert [kind in {"u8", "i8"} for kind in types(rough)] == [True, False, True], (
        "not where channels are by themselves"
    )
    exact, rounded = plain(image)[0], rough(image)[0]
    apart = np.sqrt(np.mean((exact - rounded) ** 2) / np.mean(exact**2))
    assert 1e-5 < apart < 0.02


def test_what_has_no_range_stays_as_it_was(image):
    ranges = ranges_met(image)
    assert types(compiled({1: ranges[1]}))[:2] == ["f32", "f32"]
    np.testing.assert_array_equal(compiled({})(image)[0], on_this_processor(network())(image)[0])


def test_a_range_that_is_too_narrow_cuts_off(image):
    """The ranges are what counts: they are not found anew from what comes."""
    narrow = {place: (low / 8, high / 8) for place, (low, high) in ranges_met(image).items()}
    assert np.abs(compiled(narrow)(image)[0]).max() < np.abs(compiled({})(image)[0]).max() / 2


def test_a_place_that_is_not_there_is_refused():
    with pytest.raises(IndexError):
        compiled({2: (0.0, 1.0)})
