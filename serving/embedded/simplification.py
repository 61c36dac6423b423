"""Fewer steps for the same numbers, where OpenVINO does not find them by itself.

NASNetMobile halves a picture by padding it, cropping it and pooling single pixels with stride 2, four times. Each is
one strided slice. Left as they are, the crop is computed in the other layout, between two transpositions of the whole
picture: 6 % of the network's time.
"""

from typing import Any, Final

import numpy as np
import openvino
import openvino.opset13 as operations

_TO_CHANNELS_LAST: Final = [0, 2, 3, 1]
_TO_CHANNELS_FIRST: Final = [0, 3, 1, 2]
#: Rows and columns of a picture whose channels come first.
_ROWS_AND_COLUMNS: Final = [2, 3]
#: The end of a slice that goes to the end.
_END: Final = 2**31 - 1


def simplify(model: openvino.Model) -> int:
    """Replace every crop whose pixels are then pooled one by one with a slice; how many there were."""
    found = 0
    for pooling in [node for node in model.get_ordered_ops() if _pools_single_pixels(node)]:
        crop = _between_transpositions(pooling)
        first = None if crop is None else _first_pixel(crop)
        if crop is None or first is None:
            continue
        picture = crop.input_value(0).get_node().input_value(0)
        ends = [_END] * len(_ROWS_AND_COLUMNS)
        slice_ = operations.slice(picture, first, ends, pooling.get_attributes()["strides"], _ROWS_AND_COLUMNS)
        for reader in pooling.output(0).get_target_inputs():
            reader.replace_source_output(slice_.output(0))
        found += 1
    return found


def _pools_single_pixels(node: Any) -> bool:
    if node.get_type_name() != "AvgPool":
        return False
    attributes = node.get_attributes()
    padding = [*attributes["pads_begin"], *attributes["pads_end"]]
    return set(attributes["kernel"]) == {1} and not any(padding) and attributes["rounding_type"] == "floor"


def _between_transpositions(pooling: Any) -> Any | None:
    """The crop that a pooling gets its pixels from, when it is computed with the channels last and for it alone."""
    back = pooling.input_value(0).get_node()
    if _order(back) != _TO_CHANNELS_FIRST or not _read_once(back):
        return None
    crop = back.input_value(0).get_node()
    if crop.get_type_name() != "StridedSlice" or not _read_once(crop):
        return None
    return crop if _order(crop.input_value(0).get_node()) == _TO_CHANNELS_LAST else None


def _first_pixel(crop: Any) -> list[int] | None:
    """Row and column at which a crop begins that takes all from there on; None for any other crop."""
    axes = len(_TO_CHANNELS_LAST)
    masks = crop.get_attributes()
    unusual = (*masks["new_axis_mask"], *masks["shrink_axis_mask"], *masks["ellipsis_mask"])
    to_the_end = len(masks["end_mask"]) == axes and all(masks["end_mask"])
    # Steps may be left out: they are an input of their own, and one for every axis then.
    inputs = [_constant(crop.input_value(position).get_node()) for position in range(1, crop.get_input_size())]
    begin, steps = inputs[0], inputs[2] if len(inputs) > 2 else [1] * axes
    if begin is None or steps is None or any(unusual) or not to_the_end or set(steps) != {1}:
        return None
    if not len(begin) == len(masks["begin_mask"]) == axes:
        return None
    images, row, column, channels = (
        0 if whole else start for start, whole in zip(begin, masks["begin_mask"], strict=True)
    )
    return [row, column] if (images, channels) == (0, 0) and min(row, column) >= 0 else None


def _order(node: Any) -> list[int] | None:
    return _constant(node.input_value(1).get_node()) if node.get_type_name() == "Transpose" else None


def _constant(node: Any) -> list[int] | None:
    return [int(value) for value in np.ravel(node.get_data())] if node.get_type_name() == "Constant" else None


def _read_once(node: Any) -> bool:
    return len(node.output(0).get_target_inputs()) == 1
