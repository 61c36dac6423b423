"""Write trained networks as the SavedModels that TensorFlow Serving and OpenVINO read, with checksums.

Keras' own ``model.export`` writes every weight twice. Here the function is frozen (variables become constants) and
every float constant that is a kernel is stored in half precision behind a cast: a quarter of the size, and the logits
move by less than 1e-3.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2, tensor_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from serving.model_files import checksum
from training.networks import SERVING_SIZE_PX, Network

# Constants below this many elements stay in single precision: they save nothing, and batch-norm statistics are small.
_HALF_FROM_ELEMENTS = 1024


def _serving_function(network: Network) -> Any:
    def answer(image: Any) -> dict[str, Any]:
        pixels = tf.cast(image, tf.float32)
        if network.size_px != SERVING_SIZE_PX:
            pixels = tf.image.resize(pixels, (network.size_px, network.size_px), method="bilinear")
        answers = network.full(pixels, training=False)
        cells = SERVING_SIZE_PX // 32
        if network.size_px != SERVING_SIZE_PX:
            grid = tf.image.resize(answers["attention"][..., tf.newaxis], (cells, cells), method="bilinear")
            answers = {**answers, "attention": grid[..., 0]}
        return {name: tf.identity(tf.cast(value, tf.float32), name=name) for name, value in answers.items()}

    spec = tf.TensorSpec((None, SERVING_SIZE_PX, SERVING_SIZE_PX, 3), tf.uint8, name="image")
    return tf.function(answer, input_signature=[spec])


def frozen_function(network: Network) -> Any:
    """Return the function that is served, its variables turned into constants; answers in the order of their names."""
    concrete = _serving_function(network).get_concrete_function()
    return convert_variables_to_constants_v2(concrete, lower_control_flow=False)


def halve_constants(graph: Any) -> Any:
    """Return a copy of a ``GraphDef`` whose large float kernels are half-precision constants behind a cast."""
    halved = graph_pb2.GraphDef()
    halved.versions.CopyFrom(graph.versions)
    halved.library.CopyFrom(graph.library)
    for node in graph.node:
        if node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum:
            value = tf.make_ndarray(node.attr["value"].tensor)
            if value.ndim >= 2 and value.size >= _HALF_FROM_ELEMENTS:
                stored = halved.node.add()
                stored.op, stored.name = "Const", f"{node.name}/half"
                stored.attr["dtype"].type = tf.float16.as_datatype_enum
                stored.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.astype(np.float16)))
                cast = halved.node.add()
                cast.op, cast.name = "Cast", node.name
                cast.input.append(stored.name)
                cast.attr["SrcT"].type = tf.float16.as_datatype_enum
                cast.attr["DstT"].type = tf.float32.as_datatype_enum
                continue
        halved.node.add().CopyFrom(node)
    return halved


def write_saved_model(network: Network, folder: Path) -> str:
    """Write one network (float32, any size) to ``folder`` and return the SHA-256 of its ``saved_model.pb``.

    The signature ``serving_default`` takes ``image`` uint8 ``[n,224,224,3]`` and answers ``logit`` ``[n]``,
    ``class_logits`` ``[n,7]``, ``attention`` ``[n,7,7]`` and, for networks that have one, ``embedding`` ``[n,d]``. A
    network of another input size gets a resize in front of it.
    """
    if keras.config.backend() != "tensorflow":
        raise RuntimeError("exporting SavedModels needs KERAS_BACKEND=tensorflow")
    frozen = frozen_function(network)
    input_name = frozen.inputs[0].name
    # Flattening sorts dictionaries by key.
    names = sorted(network.full.output)
    output_names = {n: t.name for n, t in zip(names, frozen.outputs, strict=True)}
    graph = halve_constants(frozen.graph.as_graph_def())

    def imported(image: Any) -> dict[str, Any]:
        tensors = tf.graph_util.import_graph_def(
            graph, input_map={input_name: image}, return_elements=list(output_names.values()), name=""
        )
        return {n: tf.identity(t, name=f"answer_{n}") for n, t in zip(output_names, tensors, strict=True)}

    spec = tf.TensorSpec((None, SERVING_SIZE_PX, SERVING_SIZE_PX, 3), tf.uint8, name="image")
    module = tf.Module()
    module.answer = tf.function(imported, input_signature=[spec])
    if folder.exists():
        shutil.rmtree(folder)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.answer})
    for rest in ("fingerprint.pb", "variables", "assets"):
        path = folder / rest
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    return checksum(folder / "saved_model.pb")


def write_warm_up(folder: Path, model_name: str) -> None:
    """Write ``assets.extra/tf_serving_warmup_requests``: one Predict, replayed by TensorFlow Serving at its start."""
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    target = folder / "assets.extra" / "tf_serving_warmup_requests"
    target.parent.mkdir(parents=True, exist_ok=True)
    # One value stands for a whole grey picture: 150 kB less per network.
    shape = tf.TensorShape((1, SERVING_SIZE_PX, SERVING_SIZE_PX, 3)).as_proto()
    grey = tensor_pb2.TensorProto(dtype=tf.uint8.as_datatype_enum, tensor_shape=shape, int_val=[128])
    request = predict_pb2.PredictRequest(
        model_spec=model_pb2.ModelSpec(name=model_name, signature_name="serving_default"), inputs={"image": grey}
    )
    log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
    with tf.io.TFRecordWriter(str(target)) as writer:
        writer.write(log.SerializeToString())


def tensorflow_answers(folder: Path, images: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Run a SavedModel with TensorFlow's own loader on uint8 ``[n,224,224,3]``."""
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return {name: value.numpy() for name, value in signature(image=tf.constant(images)).items()}


def keras_answers(network: Network, images: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Run the Keras network itself on uint8 ``[n,224,224,3]``, resized as the export does."""
    answers = _serving_function(network)(tf.constant(images))
    return {name: value.numpy() for name, value in answers.items()}
