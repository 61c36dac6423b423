"""Training from a user's own folder, from images to a network in a SavedModel, on two hundred drawn pictures."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.training,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None,
        reason="TensorFlow is not installed (requirements/training.txt)",
    ),
]


def spot(malignant: bool, rng: np.random.Generator) -> np.ndarray:
    """A round brown spot, or a ragged one with three colours."""
    image = np.full((240, 260, 3), (205, 165, 150), np.uint8)
    centre = tuple(int(c) for c in rng.integers(110, 140, 2))
    cv2.circle(image, centre, int(rng.integers(35, 55)), (60, 40, 60) if malignant else (150, 100, 75), -1)
    if malignant:
        for _ in range(12):
            where = tuple(int(c + d) for c, d in zip(centre, rng.integers(-55, 55, 2), strict=True))
            colour = [(40, 30, 40), (150, 60, 60), (90, 90, 120)][rng.integers(3)]
            cv2.circle(image, where, int(rng.integers(5, 18)), colour, -1)
    noise = rng.normal(0, 6, image.shape)
    return np.clip(cv2.GaussianBlur(image, (0, 0), 1.2) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("mine")
    rng = np.random.default_rng(0)
    for i in range(200):
        diagnosis = "melanoma" if i % 2 else "nevus"
        (root / diagnosis).mkdir(exist_ok=True)
        cv2.imwrite(str(root / diagnosis / f"{i}.jpg"), spot(bool(i % 2), rng)[..., ::-1])
    return root


def lesionlens(*arguments: object) -> str:
    command = [sys.executable, "-m", "lesionlens", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=280).stdout


def python(script: str) -> str:
    """Output of a program of its own: TensorFlow is never loaded into the tests' process."""
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    return ran.stdout.strip()


def test_a_folder_of_images_becomes_a_network_that_tells_them_apart_and_learns_on(folder, tmp_path):
    recipe = {"network": "mobilenet", "phases": [{"size_px": 64, "share": 1.0}], "epoch_images": 160, "batch": 16}
    recipe |= {"learning_rate": 1e-3, "average_momentum": 0.8, "warm_up": 0.1, "dropout": 0.0}
    # From random weights and in a minute: turns alone, the rest is tested where it belongs.
    off = ("crop", "colour", "sharpness", "compression", "noise", "cutout", "hair")
    recipe["augmentation"] = dict.fromkeys(off, False)
    (tmp_path / "recipe.json").write_text(json.dumps([recipe]))
    arguments = ["train", "--data", folder, "--runs", tmp_path / "runs", "--cache", tmp_path / "cache"]
    arguments += ["--recipe", tmp_path / "recipe.json", "--epochs", 18]
    first = lesionlens(*arguments)
    assert (tmp_path / "runs" / "mobilenet" / "curve.csv").read_text().count("\n") >= 2
    auc = float(first.rsplit("validation AUC ", 1)[1].split()[0])
    assert auc > 0.8

    started = time.monotonic()
    assert "already trained" in lesionlens(*arguments)
    assert time.monotonic() - started < 60

    script = f"""
from pathlib import Path
from training.answers import run_networks
from training.corpus import open_corpus
from training.evaluation import auc_with_interval
from training.release import export_network
from training.stacking import fit_stack, malignant_logits
folder = Path({str(tmp_path)!r}) / "models" / "mobilenet" / "1"
export_network("mobilenet", Path({str(tmp_path)!r}) / "runs" / "mobilenet" / "weights.npz", 64, folder)
corpus = open_corpus(Path({str(folder)!r}), Path({str(tmp_path)!r}) / "cache")
test = corpus.positions("test")
answers = run_networks([folder], corpus.images.pixels, test)
auc = auc_with_interval(malignant_logits(answers.class_logits[0])[:, 0], corpus.malignant[test])[0]
assert auc > 0.8, auc
assert answers.embedding.shape == (len(test), 1536)
held = corpus.positions("validation")
seen = run_networks([folder], corpus.images.pixels, held).class_logits
stack, _ = fit_stack(seen, corpus.allowed[held], corpus.groups[held])
melanoma, nevus, *others = stack.class_probabilities(answers.class_logits).T
auc = auc_with_interval(melanoma - nevus, corpus.malignant[test])[0]
assert auc > 0.8, auc
assert max(map(max, others)) < 0.5
"""
    python(script)

    # What was exported is a start, too, also in less precision: hardly trained on, it still tells them apart.
    models = tmp_path / "models"
    (models / "stack.json").write_text(json.dumps({"networks": [{"name": "mobilenet", "version": 1}]}))
    (tmp_path / "on.json").write_text(json.dumps([recipe | {"learning_rate": 1e-6, "dtype_policy": "mixed_bfloat16"}]))
    arguments = ["train", "--data", folder, "--runs", tmp_path / "on", "--cache", tmp_path / "cache"]
    arguments += ["--recipe", tmp_path / "on.json", "--epochs", 0.2, "--published", models]
    assert float(lesionlens(*arguments).rsplit("validation AUC ", 1)[1].split()[0]) > 0.8

    # The mean of both ends is a network, too. That of one end with itself is that end.
    mean = f"""
from pathlib import Path
import numpy as np
from training.averaging import mixed_with_published
from training.export import keras_answers
from training.networks import assign_weights, build_network
from training.published import published_network
root, published = Path({str(tmp_path)!r}), Path({str(models)!r}) / "mobilenet" / "1"
picture = np.random.default_rng(1).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
def logits(values):
    network = build_network("mobilenet", 64)
    assign_weights(network, values)
    return keras_answers(network, picture)["logit"]
before = keras_answers(published_network("mobilenet", published), picture)["logit"]
same = logits(mixed_with_published("mobilenet", root / "runs" / "mobilenet" / "weights.npz", published, 0.5))
assert np.abs(same - before).max() < 0.02, same - before  # what was exported has rounded kernels
moved = np.load(root / "runs" / "mobilenet" / "weights.npz")
np.savez(root / "moved.npz", **{{n: moved[n] + (0.5 if n == max(moved.files) else 0) for n in moved.files}})
mixed = mixed_with_published("mobilenet", root / "moved.npz", published, 0.3)
assert np.abs(mixed[-1] - moved[max(moved.files)] - 0.15).max() < 0.01
"""
    python(mean)

    refused = f"""
from pathlib import Path
from training.published import NotPublishedHereError, published_network
try:
    published_network("densenet121", Path({str(models)!r}) / "mobilenet" / "1")
except NotPublishedHereError as error:
    print("refused:", error)
"""
    assert "holds no densenet121 that `lesionlens export` wrote" in python(refused)


def test_a_part_of_a_recipe_is_measured_by_training_without_it(folder, tmp_path):
    off = {"label_smoothing": 0, "binary_weight": 0, "average_momentum": 0, "dropout": 0}
    off["balance"] = dict.fromkeys(("sources", "sides", "diagnoses"), False)
    off["augmentation"] = dict.fromkeys(
        ("crop", "colour", "sharpness", "compression", "noise", "cutout", "hair"), False
    )
    recipe = {"network": "mobilenet", "phases": [{"size_px": 32, "share": 1.0}], "epochs": 1, "epoch_images": 32} | off
    (tmp_path / "recipe.json").write_text(json.dumps([recipe]))
    arguments = ["ablate", "--data", folder, "--runs", tmp_path / "runs", "--cache", tmp_path / "cache"]
    arguments += ["--recipe", tmp_path / "recipe.json", "--report", tmp_path / "table.md"]

    lesionlens(*arguments)

    rows = [line.split("|")[1].strip() for line in (tmp_path / "table.md").read_text().splitlines() if "–" in line]
    assert rows == ["everything", "everything, another seed", "without augmentation: turns"]
    trained = {file.parent.parent.name: json.loads(file.read_text()) for file in tmp_path.glob("runs/*/*/recipe.json")}
    assert trained["everything"]["augmentation"]["turns"]
    assert not trained["without-augmentation-turns"]["augmentation"]["turns"]
    # A second call measures what there is.
    assert lesionlens(*arguments).count("already trained") == 3


def test_weights_of_imagenet_and_published_ones_are_two_different_starts(folder, tmp_path):
    starts = ["--weights", str(tmp_path), "--published", str(tmp_path)]
    command = [sys.executable, "-m", "lesionlens", "train", "--data", str(folder), *starts]
    ran = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)

    assert ran.returncode == 2
    assert "name one of them" in ran.stderr
