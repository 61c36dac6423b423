"""Loss, freezing, weights and export of the networks; needs Keras with a backend."""

import importlib.util
import subprocess
import sys

import pytest

# TensorFlow warns about itself while it is imported, and this suite makes errors of warnings: a process of its own.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed (requirements/training.txt)"
)


def run(script: str) -> None:
    subprocess.run([sys.executable, "-c", script], check=True, timeout=170)


def test_the_loss_is_the_marginal_likelihood_of_what_the_label_permits():
    run("""
import numpy as np
from scipy.special import log_softmax
from training.loss import DiagnosisLoss
rng = np.random.default_rng(0)
logits = rng.normal(size=(3, 7)).astype("float32")
targets = np.zeros((3, 15), "float32")
targets[0, 1] = 1
targets[1, [1, 4, 5, 6]] = 1
targets[2, 0] = 1
loss = np.asarray(DiagnosisLoss(0.0, 0.0, 0.0).call(targets, logits))
share = log_softmax(logits, axis=1)
wanted = [-share[0, 1], -np.log(np.exp(share[1, [1, 4, 5, 6]]).sum()), -share[2, 0]]
assert np.allclose(loss, wanted, atol=1e-5), (loss, wanted)
# The malignant side is learnt too, and only teachers count at a weight of one.
side = np.asarray(DiagnosisLoss(0.0, 1.0, 0.0).call(targets, logits)) - loss
malignant = np.log(np.exp(logits[:, [0, 2, 3]]).sum(1)) - np.log(np.exp(logits[:, [1, 4, 5, 6]]).sum(1))
assert np.allclose(side, np.log1p(np.exp(np.where([0, 0, 1], -malignant, malignant))), atol=1e-5)
targets[:, 7:14], targets[:, 14] = np.exp(log_softmax(logits / 2, axis=1)), 1
best = np.asarray(DiagnosisLoss(0.0, 0.0, 1.0).call(targets, logits))
worse = np.asarray(DiagnosisLoss(0.0, 0.0, 1.0).call(targets, logits[:, ::-1].copy()))
assert (best < worse).all()
""")


def test_two_answers_to_one_picture_cost_what_they_diverge_by():
    run("""
import numpy as np
from scipy.special import log_softmax, rel_entr
from training.loss import DiagnosisLoss
rng = np.random.default_rng(0)
logits = rng.normal(size=(6, 7)).astype("float32")
targets = np.zeros((6, 15), "float32")
targets[:, 1] = 1

def cost_of_diverging(answers):
    without, with_it = (np.asarray(DiagnosisLoss(0.0, 0.0, 0.0, w).call(targets, answers)) for w in (0.0, 2.0))
    return with_it - without

share = np.exp(log_softmax(logits, axis=1))
wanted = [2.0 * rel_entr(share[(i + 3) % 6], share[i]).sum() for i in range(6)]
assert np.allclose(cost_of_diverging(logits), wanted, atol=1e-5) and min(wanted) > 0.1
assert np.allclose(cost_of_diverging(np.tile(logits[:3], (2, 1))), 0.0, atol=1e-5)
""")


def test_a_batch_that_is_to_agree_holds_every_picture_in_two_variations():
    run("""
import numpy as np
from training.finetuning import Batches, TrainingData
from training.recipe import Phase, Recipe
# One flat shade a picture, which no variation takes far from where it was, and no two pictures of one diagnosis.
pixels = np.repeat(np.arange(7, dtype=np.uint8) * 36 + 20, 64 * 64 * 3).reshape(7, 64, 64, 3)
data = TrainingData(pixels, np.eye(7, dtype="float32"), np.full(7, 1 / 7), np.arange(7), np.arange(7))
def batch(**different):
    recipe = Recipe("mobilenet", phases=(Phase(32, 1.0),), batch=16, **different)
    return Batches(data, recipe, 32, first=0, left=None, teachers=None)[0]
pictures, targets = batch(agreement_weight=1.0)
assert pictures.shape == (16, 32, 32, 3)
assert (targets[:8] == targets[8:]).all() and not (pictures[:8] == pictures[8:]).all(axis=(1, 2, 3)).any()
_, targets = batch()
assert not (targets[:8] == targets[8:]).all()
""")


def test_a_network_at_another_size_has_the_same_weights_and_only_the_wanted_layers_learn():
    run("""
import numpy as np
from training.networks import assign_weights, build_network, freeze, weights_by_position
small, large = build_network("mobilenet", 64), build_network("mobilenet", 96)
assign_weights(large, weights_by_position(small))
for a, b in zip(weights_by_position(small), weights_by_position(large), strict=True):
    assert (a == b).all()
freeze(small, "backbone", batch_norm=False)
assert [w.path for w in small.classifier.trainable_weights] == ["head/kernel", "head/bias"]
freeze(small, "middle", batch_norm=True)
names = {w.path for w in small.classifier.trainable_weights}
assert "conv_pw_6/kernel" in names and "conv_pw_5/kernel" not in names and "conv_pw_6_bn/gamma" not in names
freeze(small, None, batch_norm=False)
assert "conv1/kernel" in {w.path for w in small.classifier.trainable_weights}
""")


def test_the_exported_network_answers_what_keras_and_openvino_answer(tmp_path):
    run(f"""
from pathlib import Path
import numpy as np, openvino
from training.export import keras_answers, tensorflow_answers, write_saved_model, write_warm_up
from training.networks import build_network, weights_by_position
from training.rounding import assign_rounded
for size in (224, 160):
    network = build_network("mobilenet", size)
    assign_rounded(network, weights_by_position(network))
    folder = Path({str(tmp_path)!r}) / str(size)
    write_saved_model(network, folder)
    write_warm_up(folder, "mobilenet")
    images = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    keras, tf = keras_answers(network, images), tensorflow_answers(folder, images)
    compiled = openvino.Core().compile_model(str(folder), "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
    ov = compiled(images)
    shapes = {{name: value.shape for name, value in tf.items()}}
    assert shapes == {{"logit": (3,), "class_logits": (3, 7), "attention": (3, 7, 7), "embedding": (3, 1536)}}
    for name in shapes:
        assert np.abs(tf[name] - keras[name]).max() < 1e-3, name
        assert np.abs(tf[name] - ov[name]).max() < 1e-3, name
    assert (folder / "saved_model.pb").stat().st_size < 7_500_000
    assert (folder / "assets.extra" / "tf_serving_warmup_requests").stat().st_size < 1000
""")


def test_what_is_not_exported_stays_as_it_was_published(tmp_path):
    run(f"""
import json
from pathlib import Path
from training.models_folder import published_familiarity, published_version
from training.release import export_all
from training.networks import NETWORKS
models = Path({str(tmp_path)!r})
published = [{{"name": name, "version": 3 + i, "sha256": 64 * str(i)}} for i, name in enumerate(NETWORKS)]
score = {{"network": "mobilenet", "threshold": 1.5}}
(models / "stack.json").write_text(json.dumps({{"networks": published, "out_of_distribution": score}}))
assert export_all(None, models / "runs", models, 9, print, into=models / "new", networks=()) == published
assert published_version(models, "densenet169") == 5
assert published_familiarity(models) == score
(models / "stack.json").write_text(json.dumps({{"networks": published, "out_of_distribution": None}}))
assert published_familiarity(models) is None
""")


def test_a_larger_picture_must_be_worth_its_time():
    run("""
from training.release import smallest_as_good
assert smallest_as_good({192: 0.9025, 224: 0.9030}) == 192
assert smallest_as_good({192: 0.9025, 224: 0.9070}) == 224
assert smallest_as_good({192: 0.9070, 224: 0.9025}) == 192
""")


def test_batch_norm_in_one_pass_is_keras_own():
    run("""
import keras, numpy as np, tensorflow as tf
from training.batch_norm import OnePassBatchNormalization
from training.networks import build_network
rng = np.random.default_rng(0)
features = tf.constant(rng.normal(3.0, 2.0, (32, 7, 7, 5)), tf.float32)
wanted = tf.constant(rng.normal(size=(32, 7, 7, 5)), tf.float32)
def learnt(layer):
    layer.build(features.shape)
    layer.gamma.assign([1.0, 2.0, 0.5, -1.0, 1.0])
    with tf.GradientTape() as tape:
        tape.watch(features)
        out = layer(features, training=True)
        loss = tf.reduce_sum(out * wanted)
    gradients = tape.gradient(loss, [features, *layer.trainable_variables])
    return [out, *gradients, layer.moving_mean, layer.moving_variance, layer(features, training=False)]
one, own = learnt(OnePassBatchNormalization(momentum=0.9)), learnt(keras.layers.BatchNormalization(momentum=0.9))
for a, b in zip(one, own, strict=True):
    assert np.abs(np.asarray(a) - np.asarray(b)).max() < 2e-3, (a, b)
# It is what the networks are made of, and its operation is the one that runs.
norms = [l for l in build_network("mobilenet", 64).backbone.layers if isinstance(l, keras.layers.BatchNormalization)]
assert norms and all(isinstance(l, OnePassBatchNormalization) for l in norms)
def operations(layer):
    layer.build(features.shape)
    graph = tf.function(lambda x: layer(x, training=True)).get_concrete_function(features).graph
    return {operation.type for operation in graph.get_operations()}
assert "FusedBatchNormV3" in operations(OnePassBatchNormalization())
assert "FusedBatchNormV3" not in operations(keras.layers.BatchNormalization())
""")


@pytest.mark.parametrize("name", ["mobilenet", "densenet121", "nasnetmobile"])
def test_folding_batch_norm_into_kernels_changes_no_answer(name):
    run(f"""
import keras, numpy as np
from training.networks import build_network
from training.rounding import fold_batch_norm
rng = np.random.default_rng(0)
network = build_network({name!r}, 64)
for layer in network.backbone.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        sign = np.where(rng.random(layer.gamma.shape) < 0.1, -1, 1)
        layer.gamma.assign(sign * rng.uniform(0.5, 1.5, layer.gamma.shape))
        layer.moving_variance.assign(rng.uniform(0.3, 3.0, layer.gamma.shape))
        layer.moving_mean.assign(rng.normal(0, 0.2, layer.gamma.shape))
pictures = rng.normal(0, 1, (4, 64, 64, 3)).astype("float32")
before = np.asarray(network.backbone(pictures, training=False))
fold_batch_norm(network)
apart = np.abs(np.asarray(network.backbone(pictures, training=False)) - before)
assert before.std() > 1e-4 and apart.max() < 1e-3 * np.abs(before).max(), (apart.max(), before.std())
of_one = [
    np.allclose(l.gamma / np.sqrt(l.moving_variance + l.epsilon), 1.0, atol=1e-5)
    for l in network.backbone.layers if isinstance(l, keras.layers.BatchNormalization)
]
# All of MobileNet's follow a convolution; of DenseNet121's 121 one in front and one inside each of 58 blocks.
wanted = {{"mobilenet": 27, "densenet121": 59, "nasnetmobile": 188}}[{name!r}]
assert sum(of_one) == wanted, sum(of_one)
""")


def test_kernels_are_exported_as_bf16_holds_them():
    run("""
import numpy as np
from training.networks import build_network, weights_by_position
from training.rounding import assign_rounded
import ml_dtypes
network = build_network("mobilenet", 64)
assign_rounded(network, weights_by_position(network))
kernels = [np.asarray(w) for w in network.classifier.weights if len(w.shape) >= 2]
assert len(kernels) == 28
for kernel in kernels:
    # What is smaller than half precision's smallest normal number has fewer bits there.
    whole = np.abs(kernel) > 2.0**-14
    assert whole.any() and (kernel.astype(ml_dtypes.bfloat16).astype("float32")[whole] == kernel[whole]).all()
""")


def test_a_student_learns_its_teachers_answers_and_features_and_keeps_no_layer_of_them(tmp_path):
    run(f"""
import shutil
from pathlib import Path
import keras, numpy as np
from training.finetuning import TrainingData, train_network
from training.loss import HintLoss
from training.networks import build_network, load_weights, save_weights, weights_by_position
from training.recipe import Phase, Recipe
from training.teaching import Teachers, shares_of_cells
runs = Path({str(tmp_path)!r})
keras.utils.set_random_seed(1)
save_weights(runs / "densenet121" / "weights.npz", weights_by_position(build_network("densenet121", 64)))
rng = np.random.default_rng(0)
pixels = rng.integers(0, 256, (48, 224, 224, 3), dtype=np.uint8)
allowed = np.eye(7, dtype="float32")[rng.integers(0, 7, 48)]
data = TrainingData(pixels, allowed, np.full(40, 1 / 40), np.arange(40), np.arange(40, 48))

# They look at their own size, and what they tell has one scale and the student's cells: here 2 x 2 and 1 of them.
shown = pixels[:8, 80:144, 80:144]
soft, features = Teachers(["densenet121"], runs, 64, data, 8, student_size_px=64).answers(shown)
assert soft.shape == (8, 7) and np.allclose(soft.sum(axis=1), 1) and features.shape == (8, 2, 2, 1024)
assert len({{round(float(cell), 4) for cell in features[0, :, :, :].mean(axis=-1).ravel()}}) == 4
_, whole = Teachers(["densenet121"], runs, 64, data, 8, student_size_px=32).answers(shown)
mean = features.mean(axis=(1, 2), keepdims=True)
assert np.allclose(whole / whole.std(), mean / mean.std(), atol=1e-3)
assert np.allclose(HintLoss().call(features, 0 * features), (features**2).mean(axis=(1, 2, 3)), rtol=1e-5)
assert np.allclose(shares_of_cells(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])

def trained(**different):
    recipe = Recipe(
        "mobilenet", phases=(Phase(32, 1.0),), epochs=1, epoch_images=24, batch=8, average_momentum=0.0,
        teachers=("densenet121",), teacher_size_px=64, **different,
    )
    shutil.rmtree(runs / "mobilenet", ignore_errors=True)
    return load_weights(train_network(recipe, data, runs, start=None, log=lambda line: None, verbose=0))

with_features, answers_only = trained(feature_weight=10.0), trained()
assert [w.shape for w in with_features] == [w.shape for w in answers_only], "the layer of hints is no part of it"
# Rounding alone sends single weights another way, features most of them.
apart = np.concatenate([np.abs(a - b).ravel() for a, b in zip(with_features, answers_only, strict=True)])
assert np.median(apart) > 1e-5, "the teachers' features changed nothing"
""")
