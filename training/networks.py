"""The four networks in Keras 3: backbone, seven-class head, malignant logit and class activation map.

Every network takes RGB in 0–255 and scales inside. All four end in global average pooling and one dense layer, so the
class activation map (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization") is exact and free.
Only the Keras API is used here: TensorFlow, JAX and PyTorch backends all work, the first with a quicker batch norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from services.analysis.results import NETWORKS
from training.batch_norm import in_one_pass
from training.vocabulary import BENIGN_INDICES, CLASSES, MALIGNANT_INDICES

# Width and height that every network takes in service; training may use smaller pictures.
SERVING_SIZE_PX = 224

# ImageNet channel statistics for pictures in 0–1, as the DenseNets were trained with (torchvision's convention).
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

# The applications' own moving averages forget over hundreds of steps (NASNet's over 3,000): a short training, and any
# that starts from random weights, would be evaluated on statistics that it never had. This forgets over about twenty.
_BATCH_NORM_MOMENTUM = 0.95

# Layer whose pooled features join the last ones in the exported embedding. What is no lesion differs from lesions in
# its textures, which a fine-tuned network's last layer has unlearnt to tell apart.
TEXTURE_LAYER: dict[str, str] = {"mobilenet": "conv_pw_7_relu"}

# Layer up to which (inclusive) a network may be frozen, by depth name.
FREEZE_POINTS: dict[str, dict[str, str]] = {
    "mobilenet": {"stem": "conv1_relu", "early": "conv_pw_3_relu", "middle": "conv_pw_5_relu"},
    "densenet121": {"stem": "pool1", "early": "pool2_pool", "middle": "pool3_pool"},
    "densenet169": {"stem": "pool1", "early": "pool2_pool", "middle": "pool3_pool"},
    "nasnetmobile": {},
}


@dataclass(frozen=True, slots=True)
class Network:
    """One network at one input size.

    Attributes:
        name: one of the four.
        size_px: width and height of the pictures that it takes.
        classifier: picture ``[n,size,size,3]`` in 0–255 → class logits ``[n,7]``; what is trained.
        backbone: scaled picture → features ``[n,h,w,c]``.
        full: picture → ``{"class_logits", "logit", "attention"}`` and, for the networks of :data:`TEXTURE_LAYER`,
            ``embedding`` ``[n,d]``: pooled features of that layer and of the last; what is exported.
    """

    name: str
    size_px: int
    classifier: Any
    backbone: Any
    full: Any


def _backbone(name: str, size_px: int) -> Any:
    shape = (size_px, size_px, 3)
    builder = {
        "mobilenet": keras.applications.MobileNet,
        "densenet121": keras.applications.DenseNet121,
        "densenet169": keras.applications.DenseNet169,
        "nasnetmobile": keras.applications.NASNetMobile,
    }[name]
    return in_one_pass(builder(weights=None, include_top=False, input_shape=shape), _BATCH_NORM_MOMENTUM)


def _scaling(name: str) -> Any:
    if name.startswith("densenet"):
        return keras.layers.Rescaling(
            scale=[1.0 / (255.0 * s) for s in _IMAGENET_STD],
            offset=[-m / s for m, s in zip(_IMAGENET_MEAN, _IMAGENET_STD, strict=True)],
            dtype="float32",
            name="scaling",
        )
    return keras.layers.Rescaling(scale=1.0 / 127.5, offset=-1.0, dtype="float32", name="scaling")


def malignant_logit(class_logits: Any) -> Any:
    """Return ``logsumexp(malignant) − logsumexp(benign)`` of class logits ``[n,7]``, shape ``[n]``."""
    ops = keras.ops
    malignant = ops.stack([class_logits[:, i] for i in MALIGNANT_INDICES], axis=1)
    benign = ops.stack([class_logits[:, i] for i in BENIGN_INDICES], axis=1)
    return ops.logsumexp(malignant, axis=1) - ops.logsumexp(benign, axis=1)


@keras.saving.register_keras_serializable(package="lesionlens")
class MalignantEvidence(keras.layers.Layer):  # type: ignore[misc]
    """Class scores of every cell and class logits → how much every cell adds to the malignant logit.

    The malignant logit is a difference of two logsumexp, whose derivative by a class logit is that class's softmax
    weight inside its side (negative on the benign side). Weighting the cells' class scores ``[n,h,w,7]`` with it
    gives a map ``[n,h,w]``: positive cells speak for malignancy, negative ones against it.
    """

    def call(self, cell_scores: Any, class_logits: Any) -> Any:
        """Return the map ``[n,h,w]``."""
        ops = keras.ops
        side = np.zeros((2, len(CLASSES)), "float32")
        side[0, list(MALIGNANT_INDICES)] = 1.0
        side[1, list(BENIGN_INDICES)] = 1.0
        # Log-domain masks: the other side's logits are pushed out of the softmax.
        malignant_weights = ops.softmax(class_logits + (side[0] - 1.0) * 1e4, axis=-1)
        benign_weights = ops.softmax(class_logits + (side[1] - 1.0) * 1e4, axis=-1)
        weights = (malignant_weights - benign_weights)[:, None, None, :]
        return ops.sum(cell_scores * weights, axis=-1)

    def compute_output_shape(self, cell_scores_shape: Any, class_logits_shape: Any = None) -> Any:  # noqa: ARG002
        """Return the shape of the map."""
        return tuple(cell_scores_shape[:-1])


@keras.saving.register_keras_serializable(package="lesionlens")
class MalignantLogit(keras.layers.Layer):  # type: ignore[misc]
    """:func:`malignant_logit` as a layer."""

    def call(self, class_logits: Any) -> Any:
        """Return the malignant logit ``[n]``."""
        return malignant_logit(class_logits)

    def compute_output_shape(self, class_logits_shape: Any) -> Any:
        """Return the shape ``[n]``."""
        return (class_logits_shape[0],)


def build_network(name: str, size_px: int = SERVING_SIZE_PX, dropout: float = 0.2) -> Network:
    """Build a network with random weights under the current Keras dtype policy.

    Args:
        name: one of the four.
        size_px: width and height of the input pictures, a multiple of 32.
        dropout: share of pooled features dropped while training.

    Raises:
        ValueError: for an unknown name or a size that is not a multiple of 32.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; known are {', '.join(NETWORKS)}")
    if size_px % 32:
        raise ValueError(f"size {size_px} is not a multiple of 32")
    image = keras.Input((size_px, size_px, 3), name="image", dtype="float32")
    backbone = _backbone(name, size_px)
    texture_layer = TEXTURE_LAYER.get(name)
    inside = [backbone.get_layer(texture_layer).output] if texture_layer else []
    *texture, features = keras.Model(backbone.input, [*inside, backbone.output], name="features")(_scaling(name)(image))
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled", dtype="float32")(features)
    dropped = keras.layers.Dropout(dropout, name="dropout", dtype="float32")(pooled)
    head = keras.layers.Dense(len(CLASSES), name="head", dtype="float32")
    class_logits = head(dropped)
    classifier = keras.Model(image, class_logits, name=name)
    # A dense layer works on the last axis of any rank: the same head scores every cell.
    cell_scores = head(keras.layers.Activation("linear", dtype="float32", name="cells")(features))
    outputs = {
        "class_logits": class_logits,
        "logit": MalignantLogit(name="logit", dtype="float32")(class_logits),
        "attention": MalignantEvidence(name="attention", dtype="float32")(cell_scores, class_logits),
    }
    if texture:
        pooled_texture = keras.layers.GlobalAveragePooling2D(name="texture", dtype="float32")(texture[0])
        outputs["embedding"] = keras.layers.Concatenate(name="embedding", dtype="float32")([pooled_texture, pooled])
    full = keras.Model(image, outputs, name=f"{name}_full")
    return Network(name=name, size_px=size_px, classifier=classifier, backbone=backbone, full=full)


def load_backbone_weights(network: Network, path: Path) -> None:
    """Load the ImageNet start of a backbone from an ``.npz`` of ``f32/…``, ``int8/…`` and ``scale/…`` arrays.

    Large kernels come as ``int8 × scale`` (one scale per output channel).

    Raises:
        KeyError: when the file lacks one of the backbone's weights.
    """
    with np.load(path) as arrays:
        names = set(arrays.files)
        for weight in network.backbone.weights:
            plain, quantised = f"f32/{weight.path}", f"int8/{weight.path}"
            if plain in names:
                weight.assign(arrays[plain].astype("float32"))
            elif quantised in names:
                weight.assign(arrays[quantised].astype("float32") * arrays[f"scale/{weight.path}"])
            else:
                raise KeyError(f"{path.name} has no weight {weight.path}")


def freeze(network: Network, depth: str | None, *, batch_norm: bool) -> None:
    """Set what is trained: what lies after ``depth``; the head always.

    ``depth`` is a key of :data:`FREEZE_POINTS`, ``backbone`` for the head alone, or ``None`` for the whole network.
    With ``batch_norm`` frozen its layers run on the ImageNet statistics, which is faster and, with batches as small
    as 32, no worse.

    Raises:
        ValueError: for a depth that the network does not have.
    """
    backbone = network.backbone
    backbone.trainable = True
    last = FREEZE_POINTS[network.name].get(depth) if depth else None
    if depth == "backbone":
        backbone.trainable = False
        return
    if depth and last is None:
        raise ValueError(f"{network.name} cannot be frozen up to {depth!r}")
    frozen = last is not None
    for layer in backbone.layers:
        is_batch_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = not frozen and not (batch_norm and is_batch_norm)
        if layer.name == last:
            frozen = False


def weights_by_position(network: Network) -> list[np.ndarray[Any, Any]]:
    """Return every weight of the classifier as float32 arrays, in an order that depends on the name alone."""
    return [np.asarray(keras.ops.convert_to_numpy(w), dtype="float32") for w in network.classifier.weights]


def assign_weights(network: Network, values: list[np.ndarray[Any, Any]]) -> None:
    """Assign what :func:`weights_by_position` returned, also to the same network at another input size."""
    weights = network.classifier.weights
    if len(weights) != len(values):
        raise ValueError(f"{network.name} has {len(weights)} weights, the checkpoint has {len(values)}")
    for weight, value in zip(weights, values, strict=True):
        weight.assign(value)


def save_weights(path: Path, values: list[np.ndarray[Any, Any]]) -> None:
    """Write weights to an ``.npz`` in one step, so that an interrupted write never replaces a good file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, allow_pickle=False, **{f"w{i:04d}": v for i, v in enumerate(values)})
    temporary.replace(path)


def load_weights(path: Path) -> list[np.ndarray[Any, Any]]:
    """Read what :func:`save_weights` wrote."""
    with np.load(path) as arrays:
        return [arrays[name] for name in sorted(arrays.files)]
