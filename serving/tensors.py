"""numpy arrays to TensorProto and back, as TensorFlow reads and writes them.

Source: `Tensor::FromProto` and `Tensor::AsProtoField` in tensorflow/core/framework/tensor.cc. One deliberate
difference: a list with more values than the shape holds is refused here, where TensorFlow drops the rest in
silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.wire import DATA_TYPES, Message, TensorProto

#: Bytes one tensor may decode to, the same as one message may have. A shape is only a few bytes on the wire,
#: so without a bound one small request could ask for terabytes.
MAX_TENSOR_BYTES = 64 * 1024 * 1024

#: TensorProto's number of each data type we read and write: (numpy type, the field that lists its values one
#: by one).
_TYPES: dict[int, tuple[np.dtype[Any], str]] = {
    DATA_TYPES[name]: (np.dtype(kind).newbyteorder("<"), field)
    for name, kind, field in (
        ("DT_FLOAT", np.float32, "float_val"),
        ("DT_DOUBLE", np.float64, "double_val"),
        ("DT_HALF", np.float16, "half_val"),
        ("DT_INT8", np.int8, "int_val"),
        ("DT_INT16", np.int16, "int_val"),
        ("DT_INT32", np.int32, "int_val"),
        ("DT_INT64", np.int64, "int64_val"),
        ("DT_UINT8", np.uint8, "int_val"),
        ("DT_UINT16", np.uint16, "int_val"),
        ("DT_UINT32", np.uint32, "uint32_val"),
        ("DT_UINT64", np.uint64, "uint64_val"),
        ("DT_BOOL", np.bool_, "bool_val"),
    )
}
_NUMBERS = {kind: number for number, (kind, _) in _TYPES.items()}
_NAMES = {number: name for name, number in DATA_TYPES.items()}


@dataclass(frozen=True, slots=True)
class TensorRefusal:
    """A tensor that cannot be read, and why: an outcome that a server answers with INVALID_ARGUMENT."""

    sentence: str


def data_type_name(number: int) -> str:
    """Name of a DataType number as people know it: `uint8`, `float`, or `type 99` for one nobody knows."""
    name = _NAMES.get(number)
    return name.removeprefix("DT_").lower() if name else f"type {number}"


def to_proto(array: NDArray[Any]) -> Message:
    """TensorProto of an array, its bytes in `tensor_content` (the shortest form; a request travels so).

    Raises TypeError for a numpy type that has no DataType here.
    """
    array = np.asarray(array)
    proto = _header(array)
    proto.tensor_content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return proto


def to_proto_values(array: NDArray[Any]) -> Message:
    """TensorProto of an array, its values one by one in the `*_val` field of its type.

    TensorFlow Serving answers in this form unless told otherwise, and callers read `float_val` directly, so
    the embedded server answers in it too. Raises TypeError for a numpy type that has no DataType here.
    """
    array = np.asarray(array)
    proto = _header(array)
    kind, field = _TYPES[proto.dtype]
    flat = array.ravel()
    values = flat.view(np.uint16) if kind == np.float16 else flat  # half_val carries the sixteen bits as an integer
    getattr(proto, field).extend(values.tolist())
    return proto


def from_proto(proto: Message) -> NDArray[Any] | TensorRefusal:
    """Array of a TensorProto, or why there is none.

    Reads `tensor_content` when it is not empty (a read-only view, no copy), else the `*_val` field of the
    type. Fewer values than the shape holds means the last one fills the rest, none means zeros: TensorFlow's
    own compression.
    """
    if proto.dtype == DATA_TYPES["DT_STRING"]:
        return TensorRefusal(
            "string tensors are not read here; decode the image and send its pixels as uint8, not encoded bytes"
        )
    if proto.dtype not in _TYPES:
        return TensorRefusal(f"tensors of {data_type_name(proto.dtype)} are not read here")
    if proto.tensor_shape.unknown_rank:
        return TensorRefusal("the tensor has no shape (unknown_rank)")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if any(size < 0 for size in shape):
        return TensorRefusal(f"the shape {list(shape)} has a negative size")
    kind, field = _TYPES[proto.dtype]
    expected = 1
    for size in shape:  # Python integers: no product can wrap around
        expected *= size
    if expected * kind.itemsize > MAX_TENSOR_BYTES:
        return TensorRefusal(f"the shape {list(shape)} asks for more than {MAX_TENSOR_BYTES} bytes")
    if proto.tensor_content:
        return _from_content(proto.tensor_content, kind, shape, expected)
    return _from_values(getattr(proto, field), field, kind, shape, expected)


def _header(array: NDArray[Any]) -> Message:
    number = _NUMBERS.get(array.dtype.newbyteorder("<"))
    if number is None:
        raise TypeError(f"numpy type {array.dtype} has no TensorProto type here")
    proto = TensorProto(dtype=number)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def _from_content(
    content: bytes, kind: np.dtype[Any], shape: tuple[int, ...], expected: int
) -> NDArray[Any] | TensorRefusal:
    if len(content) != expected * kind.itemsize:
        return TensorRefusal(
            f"tensor_content has {len(content)} bytes, but {kind.name} of shape {list(shape)} "
            f"needs {expected * kind.itemsize}"
        )
    return np.frombuffer(content, kind).reshape(shape)


def _from_values(
    values: Sequence[Any], field: str, kind: np.dtype[Any], shape: tuple[int, ...], expected: int
) -> NDArray[Any] | TensorRefusal:
    if len(values) > expected:
        return TensorRefusal(f"{field} has {len(values)} values, but the shape {list(shape)} holds {expected}")
    if field in ("int_val", "half_val"):  # 32-bit fields that carry shorter types
        bits = np.dtype(np.uint16) if field == "half_val" else kind
        wide = np.array(values, np.int64)
        low, high = np.iinfo(bits).min, np.iinfo(bits).max
        if wide.size and not low <= wide.min() <= wide.max() <= high:
            return TensorRefusal(f"{field} has values outside {bits.name} ({low} to {high})")
        given = wide.astype(bits).view(kind)
    else:
        given = np.array(values, kind)
    array = np.zeros(expected, kind)
    array[: given.size] = given
    if given.size:
        array[given.size :] = given[-1]
    return array.reshape(shape)
