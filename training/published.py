"""Read the weights of an exported SavedModel back, so that a training can go on from the networks that are shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from services.analysis.errors import LesionLensError
from training.networks import SERVING_SIZE_PX, Network, assign_weights, build_network

Array = np.ndarray[Any, Any]

# Exported constants that were variables end so, the stored half of a kernel with one word more.
_WEIGHT = ("/resource", "/resource/half")
_SIZE = "resize/size"

# How far the rebuilt network's logits may be from the SavedModel's: both compute in single precision from the same
# numbers, the one folded and the other not.
_TOLERANCE = 1e-3


class NotPublishedHereError(LesionLensError):
    """A folder does not hold a SavedModel that :mod:`training.export` wrote for this network."""

    problem = "not-published-here"
    title = "A folder holds no network that could be gone on from"
    advice = "Name a folder that `lesionlens export` wrote, such as serving/models."


def published_network(name: str, folder: Path) -> Network:
    """Return the network of a SavedModel, with its weights and at its picture size.

    The graph has lost which weight a constant was. So the export is run once more on a network whose every weight is
    filled with its own position: the order of the constants then tells where each weight went. That the result answers
    as the SavedModel does is proved before it is returned. Kernels are rounded to half precision, as they were stored.

    Raises:
        NotPublishedHereError: when the graph's constants are not those of this network.
    """
    from training.export import keras_answers, tensorflow_answers

    constants = _constants(folder)
    size = next((int(value[0]) for node, value in constants if node == _SIZE), SERVING_SIZE_PX)
    stored = [value for node, value in constants if node.endswith(_WEIGHT)]
    network = _in_single_precision(name, size)
    order = _order_of_weights(network)
    shapes = [tuple(network.classifier.weights[position].shape) for position in order]
    if [value.shape for value in stored] != shapes:
        raise NotPublishedHereError(f"{folder} holds no {name} that `lesionlens export` wrote: other weights are in it")
    by_position = dict(zip(order, stored, strict=True))
    assign_weights(network, [by_position[i].astype(np.float32) for i in range(len(order))])

    picture = np.random.default_rng(0).integers(0, 256, (2, SERVING_SIZE_PX, SERVING_SIZE_PX, 3), dtype=np.uint8)
    apart = np.abs(keras_answers(network, picture)["logit"] - tensorflow_answers(folder, picture)["logit"]).max()
    if not apart <= _TOLERANCE:
        raise NotPublishedHereError(f"{folder}, read back as {name}, answers differently (logits {apart:.3g} apart)")
    return network


def _in_single_precision(name: str, size_px: int) -> Network:
    """Return a new network that computes as the SavedModel does, whatever the training around it computes in."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return build_network(name, size_px)
    finally:
        keras.config.set_dtype_policy(policy)


def _constants(folder: Path) -> list[tuple[str, Array]]:
    """Return the numeric constants of a SavedModel's functions with their names, in the graph's order."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    if not path.exists():
        raise NotPublishedHereError(f"{folder} holds no saved_model.pb")
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    return [
        (node.name, tf.make_ndarray(node.attr["value"].tensor))
        for function in model.meta_graphs[0].graph_def.library.function
        for node in function.node_def
        if node.op == "Const" and node.attr["dtype"].type != tf.string.as_datatype_enum
    ]


def _order_of_weights(network: Network) -> list[int]:
    """Return the positions of the classifier's weights in the order in which an export writes them as constants."""
    import tensorflow as tf

    from training.export import frozen_function

    for position, weight in enumerate(network.classifier.weights):
        weight.assign(keras.ops.full(weight.shape, float(position), dtype="float32"))
    nodes = frozen_function(network).graph.as_graph_def().node
    return [
        int(tf.make_ndarray(node.attr["value"].tensor).flat[0])
        for node in nodes
        if node.op == "Const" and node.name.endswith(_WEIGHT[0])
    ]
