"""TensorProto to numpy and back, as TensorFlow reads and writes it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.tensors import MAX_TENSOR_BYTES, TensorRefusal, from_proto, to_proto, to_proto_values
from serving.wire import DATA_TYPES, TensorProto

TYPES = [
    np.float32, np.float64, np.float16, np.int8, np.int16, np.int32, np.int64,
    np.uint8, np.uint16, np.uint32, np.uint64, np.bool_,
]  # fmt: skip
arrays = st.sampled_from(TYPES).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


def proto(dtype: str, shape: list[int], **values: object) -> object:
    message = TensorProto(dtype=DATA_TYPES[dtype], **values)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


@given(arrays)
@pytest.mark.parametrize("write", [to_proto, to_proto_values])
def test_every_type_and_shape_comes_back_bit_by_bit(write, array):
    there = TensorProto.FromString(write(array).SerializeToString())
    back = from_proto(there)
    assert isinstance(back, np.ndarray)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_a_big_endian_array_travels_as_little_endian():
    assert to_proto(np.array([1.5], ">f4")).tensor_content == np.array([1.5], "<f4").tobytes()


def test_one_value_fills_the_whole_shape():
    np.testing.assert_array_equal(from_proto(proto("DT_FLOAT", [2, 3], float_val=[0.5])), np.full((2, 3), 0.5))


def test_the_last_value_fills_the_rest():
    np.testing.assert_array_equal(from_proto(proto("DT_UINT8", [4], int_val=[7, 9])), [7, 9, 9, 9])


def test_no_value_at_all_means_zeros():
    np.testing.assert_array_equal(from_proto(proto("DT_INT64", [3])), [0, 0, 0])


def test_half_values_are_the_bits_of_a_half():
    np.testing.assert_array_equal(from_proto(proto("DT_HALF", [2], half_val=[0x3C00, 0xC000])), [1.0, -2.0])


def test_content_wins_over_values():
    message = proto("DT_UINT8", [1], int_val=[1], tensor_content=b"\x05")
    np.testing.assert_array_equal(from_proto(message), [5])


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (proto("DT_STRING", [1], string_val=[b"JPEG"]), "decode the image and send its pixels as uint8"),
        (proto("DT_COMPLEX64", [1]), "tensors of complex64 are not read"),
        (proto("DT_INVALID", [1]), "tensors of invalid are not read"),
        (TensorProto(dtype=99), "type 99"),
        (proto("DT_UINT8", [2, 2], tensor_content=b"123"), "has 3 bytes, but uint8 of shape [2, 2] needs 4"),
        (proto("DT_FLOAT", [2], float_val=[1, 2, 3]), "float_val has 3 values, but the shape [2] holds 2"),
        (proto("DT_UINT8", [1], int_val=[256]), "values outside uint8 (0 to 255)"),
        (proto("DT_INT8", [1], int_val=[-129]), "values outside int8 (-128 to 127)"),
        (proto("DT_HALF", [1], half_val=[70000]), "values outside uint16"),
        (proto("DT_UINT8", [-1, 3]), "negative size"),
        (proto("DT_UINT8", [2**40, 2**40]), f"more than {MAX_TENSOR_BYTES} bytes"),
    ],
)
def test_what_cannot_be_read_says_why(message, words):
    refusal = from_proto(message)
    assert isinstance(refusal, TensorRefusal)
    assert words in refusal.sentence


def test_a_shape_of_unknown_rank_is_refused():
    message = proto("DT_UINT8", [], tensor_content=b"1")
    message.tensor_shape.unknown_rank = True
    assert isinstance(from_proto(message), TensorRefusal)


def test_a_type_without_a_number_cannot_be_written():
    with pytest.raises(TypeError, match="complex128"):
        to_proto(np.array([1j]))
