"""Shrinking a picture by a ratio of small whole numbers: rows first and then columns, instead of number by number.

Three of the networks look at a smaller picture than they are given and begin with a bilinear resize. OpenVINO gathers
four pixels for each number of it, one after another: 6 to 12 % of the time of a network in 8 bits. But rows are
weighed whole, so for them each row is one long list of channels; and where 7 columns become 6 or 5, these come from
the 7 alone, which makes columns a product with one small matrix. Together they take a fifth of the time.

What bf16 rounds between the two lies around 0, where it rounds least, and the matrix holds whole numbers, which it does
not round.
"""

from math import gcd
from typing import Any, Final

import numpy as np
import openvino
import openvino.opset13 as operations
from numpy.typing import NDArray

#: Rows and columns of a picture whose channels come last.
_ROWS_AND_COLUMNS: Final = [1, 2]
#: The middle of what a pixel of 8 bits can be.
_MIDDLE: Final = np.float32(128)
#: Numbers that one of the result is summed from, at most: all but two count 0, so beyond this gathering is quicker.
_MOST_SUMMED: Final = 64


def split_shrinkings(model: openvino.Model) -> int:
    """Replace every resize of an input of 8-bit pixels that can be two steps; how many there were."""
    found = 0
    for resize in [node for node in model.get_ordered_ops() if _is_bilinear(node) and _reads_pixels(node)]:
        picture = resize.input_value(0)
        (_, rows, columns, channels), (_, fewer_rows, fewer_columns, _) = picture.shape, resize.output(0).shape
        block = columns // gcd(columns, fewer_columns)
        if fewer_rows > rows or fewer_columns > columns or block * channels > _MOST_SUMMED:
            continue
        around_0 = operations.subtract(picture, operations.constant(_MIDDLE))
        shrunk = _with_fewer_columns(_with_fewer_rows(around_0, fewer_rows), fewer_columns)
        again = operations.add(shrunk, operations.constant(_MIDDLE))
        for reader in resize.output(0).get_target_inputs():
            reader.replace_source_output(again.output(0))
        found += 1
    return found


def _is_bilinear(node: Any) -> bool:
    """Whether this is TensorFlow's ResizeBilinear, pixels being squares around their centres, and shapes are known."""
    if node.get_type_name() != "Interpolate" or node.get_input_size() < 3:
        return False
    attributes = node.get_attributes()
    how = (attributes["mode"], attributes["coordinate_transformation_mode"], attributes["antialias"])
    padding = [*attributes["pads_begin"], *attributes["pads_end"]]
    axes = node.input_value(2).get_node()
    if how != ("linear_onnx", "half_pixel", False) or any(padding) or axes.get_type_name() != "Constant":
        return False
    if node.input_value(0).partial_shape.is_dynamic or node.output(0).partial_shape.is_dynamic:
        return False
    return np.ravel(axes.get_data()).tolist() == _ROWS_AND_COLUMNS and len(node.output(0).shape) == 4


def _reads_pixels(resize: Any) -> bool:
    """Whether the picture is an input of the network of 8 bits, and not something computed from it."""
    source = resize.input_value(0).get_node()
    while source.get_type_name() == "Convert":
        source = source.input_value(0).get_node()
    return bool(source.get_type_name() == "Parameter" and source.get_element_type() == openvino.Type.u8)


def _with_fewer_rows(picture: Any, rows: int) -> Any:
    images, before, columns, channels = picture.output(0).shape
    lists = operations.transpose(_reshaped(picture, [images, before, 1, columns * channels]), [0, 3, 1, 2])
    resized = operations.interpolate(
        lists, [rows], "linear_onnx", "sizes", axes=[2], coordinate_transformation_mode="half_pixel"
    )
    return _reshaped(operations.transpose(resized, [0, 2, 3, 1]), [images, rows, columns, channels])


def _with_fewer_columns(picture: Any, columns: int) -> Any:
    images, rows, before, channels = picture.output(0).shape
    blocks = gcd(before, columns)
    parts = _parts(before // blocks, columns // blocks)
    matrix = np.kron(parts, np.eye(channels, dtype=np.float32))
    cut = _reshaped(picture, [images, rows, blocks, matrix.shape[0]])
    summed = operations.matmul(cut, operations.constant(matrix), transpose_a=False, transpose_b=False)
    # Behind the reshape, because in front of it OpenVINO would multiply the matrix with it, whose numbers are whole.
    return operations.multiply(
        _reshaped(summed, [images, rows, columns, channels]), operations.constant(1 / parts.sum(axis=0)[0])
    )


def _parts(before: int, after: int) -> NDArray[np.float32]:
    """How many parts of each of `after` columns are each of the `before` they come from, [before, after].

    Numbers without a common divisor, `after` the smaller: then 2 · after parts, whole ones, are a column. Centres of
    the new columns lie between those of the first and the last old one, so no column beside these counts.
    """
    parts = np.zeros((before, after), np.float32)
    for column in range(after):
        left, right_share = divmod((2 * column + 1) * before - after, 2 * after)
        parts[left, column] = 2 * after - right_share
        if right_share:
            parts[left + 1, column] = right_share
    return parts


def _reshaped(value: Any, shape: list[int]) -> Any:
    return operations.reshape(value, operations.constant(np.asarray(shape, np.int64)), special_zero=False)
