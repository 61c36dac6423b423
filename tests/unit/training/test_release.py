"""What is shipped is replaced as a whole or not at all, and what cannot be done is told in a sentence."""

import importlib.util
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from services.analysis.results import NETWORKS
from serving.model_config import ModelConfig, read_config, write_config
from training.commands import ablate, calibrate, evaluate, export, train
from training.corpus import open_corpus
from training.split_record import begin

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed (requirements/training.txt)"
)


def images(root, *diagnoses, count=60):
    for i in range(count):
        folder = root / diagnoses[i % len(diagnoses)]
        folder.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(i).integers(40, 220, (7, 7, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, (120, 100), interpolation=cv2.INTER_CUBIC))
    return root


@pytest.fixture
def models(tmp_path):
    """Published networks and finished trainings, by their names alone."""
    folder = tmp_path / "models"
    for name in NETWORKS:
        (tmp_path / "runs" / name).mkdir(parents=True)
        for written in ("weights.npz", "recipe.json"):
            (tmp_path / "runs" / name / written).touch()
        (folder / name / "3").mkdir(parents=True)
        (folder / name / "3" / "saved_model.pb").write_text(f"{name} as published")
    turns = dict(zip(NETWORKS, (8, 2, 2, 1), strict=True))
    entries = [{"name": name, "version": 3, "sha256": "0" * 64, "turns": turns[name]} for name in NETWORKS]
    content = {"version": "3", "networks": entries, "test_time_augmentation": 2, "out_of_distribution": None}
    (folder / "stack.json").write_text(json.dumps(content))
    return folder


def changed(models, **content):
    """The same networks under a stack of which something else is said."""
    path = models / "stack.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | content))


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def said(command, tmp_path, *arguments):
    given = ["--data", tmp_path / "data", "--cache", tmp_path / "cache", *arguments]
    result = CliRunner().invoke(command, [str(argument) for argument in given])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    return result.output


@pytest.mark.parametrize("command", [export, evaluate, calibrate, pytest.param(train, marks=needs_tensorflow)])
def test_a_folder_without_images_is_told_in_words(tmp_path, models, command):
    (tmp_path / "data").mkdir()
    arguments = ["--runs", tmp_path / "runs"] if command in {export, train} else []
    output = said(command, tmp_path, *arguments, *(["--models", models] if command is not train else []))
    assert f"{tmp_path / 'data'} holds no metadata.csv" in output
    assert "Name a folder of images with their diagnoses" in output


@pytest.mark.parametrize("arguments", [[], ["--network", "densenet169", "--network", "mobilenet"]])
def test_what_is_not_trained_to_its_end_is_named_before_anything_is_exported(tmp_path, models, arguments):
    (tmp_path / "data").mkdir()  # not even whether there are images is asked before
    (tmp_path / "runs" / "densenet169" / "weights.npz").unlink()
    output = said(export, tmp_path, "--runs", tmp_path / "runs", "--models", models, *arguments)
    assert "holds no finished training of densenet169. Run `lesionlens train" in output


def test_a_student_whose_teacher_is_not_trained_is_refused(tmp_path):
    images(tmp_path / "data", "nevus", "melanoma", count=8)
    output = said(train, tmp_path, "--runs", tmp_path / "runs", "--network", "nasnetmobile")
    assert "holds no finished training of mobilenet. Run `lesionlens train" in output


def test_a_student_is_not_ablated(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "recipe.json").write_text('[{"network": "nasnetmobile", "teachers": ["mobilenet"]}]')
    result = CliRunner().invoke(ablate, ["--data", str(tmp_path / "data"), "--recipe", str(tmp_path / "recipe.json")])
    assert result.exit_code == 2
    assert "names teachers" in result.output


@pytest.mark.parametrize("command", [evaluate, calibrate])
def test_models_without_a_stack_are_named_before_the_images_are_prepared(tmp_path, command):
    (tmp_path / "data").mkdir()
    output = said(command, tmp_path, "--models", tmp_path / "none")
    assert "stack.json" in output
    assert "Name a folder of images" not in output


@pytest.mark.parametrize("command", [evaluate, calibrate])
def test_images_of_one_kind_are_not_measured(tmp_path, models, command):
    images(tmp_path / "data", "nevus")
    output = said(command, tmp_path, "--models", models)
    assert "0 malignant and 10 benign images of the test side" in output
    assert "Add images, malignant and benign" in output


def test_a_folder_of_one_kind_replaces_nothing_and_is_told_what_it_lacks(tmp_path, models):
    images(tmp_path / "data", "nevus")
    before = files(models)
    output = said(export, tmp_path, "--runs", tmp_path / "runs", "--models", models)
    assert "0 malignant" in output
    assert "Add images of both kinds" in output
    assert files(models) == before


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_number_that_a_network_has_is_not_given_to_another_one(tmp_path, models, share):
    images(tmp_path / "data", "nevus", "melanoma", count=8)
    output = said(export, tmp_path, "--models", models, "--version", 3, "--trained-share", share)
    assert "mobilenet in" in output
    assert "has version 3 already. Leave --version out" in output


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_what_refuses_pictures_of_no_lesion_is_not_replaced_unasked_by_what_takes_them(tmp_path, models, share):
    images(tmp_path / "data", "nevus", "melanoma", count=8)
    changed(models, out_of_distribution={"network": "mobilenet"})
    arguments = ["--models", models, "--runs", tmp_path / "runs", "--trained-share", share]
    output = said(export, tmp_path, *arguments)
    assert "such pictures would be answered as lesions, and drift would not be measured" in output
    assert "Name a folder of pictures of anything but lesions with --others" in output
    # Whoever does without it gets further, and so does who leaves the network that the score is of.
    for more in (["--no-others"], ["--network", "densenet121"], ["--others", tmp_path / "data"]):
        assert "no stack can be fitted" in said(export, tmp_path, *arguments, *more)


def test_a_stack_after_one_without_a_number_has_to_be_named(tmp_path, models):
    images(tmp_path / "data", "nevus", "melanoma", count=8)
    changed(models, version="2026-11")
    output = said(export, tmp_path, "--models", models)
    assert "the published stack is of version 2026-11, which no number follows. Say what" in output
    assert "no stack can be fitted" in said(
        export, tmp_path, "--models", models, "--runs", tmp_path / "runs", "--stack-version", "2026-12"
    )


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (export, ["--models", "{}", "--network", "mobilenet"]),
        (export, ["--models", "{}", "--trained-share", 0.5]),
        (evaluate, ["--models", "{}"]),
        pytest.param(train, ["--published", "{}", "--network", "mobilenet"], marks=needs_tensorflow),
    ],
    ids=["export one", "export a mean", "evaluate", "train on"],
)
def test_a_folder_without_a_stack_is_told_from_one_with_published_networks(tmp_path, command, arguments):
    images(tmp_path / "data", "nevus", "melanoma", count=8)
    (tmp_path / "empty").mkdir()
    output = said(command, tmp_path, *(str(argument).format(tmp_path / "empty") for argument in arguments))
    assert "holds no stack.json. Name a folder that `lesionlens export` wrote" in output


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (export, []),
        pytest.param(train, ["--network", "mobilenet"], marks=needs_tensorflow),
    ],
    ids=["export", "resume"],
)
def test_a_network_trained_before_the_folder_grew_is_refused(tmp_path, models, command, arguments):
    images(tmp_path / "data", "nevus", "melanoma", count=200)
    folder = tmp_path / "runs" / "mobilenet"
    begin(folder, open_corpus(tmp_path / "data", tmp_path / "cache").split, None)
    (folder / "progress.json").write_text("{}")
    (tmp_path / "data" / "nevus" / "0.png").unlink()
    if command is train:
        (folder / "weights.npz").unlink()
    output = said(command, tmp_path, "--runs", tmp_path / "runs", *(arguments or ["--models", models]))
    assert "mobilenet was trained on other images" in output
    assert "Bring the folder of images back to what it was" in output


@needs_tensorflow
def test_networks_are_put_into_place_when_the_stack_is_fitted_and_not_before(tmp_path, models):
    images(tmp_path / "data", "nevus", "melanoma", count=200)
    configs = tmp_path / "tensorflow-serving"
    configs.mkdir()
    for name in NETWORKS:
        write_config(configs, ModelConfig(name, f"/models/{name}", (3,), {"stable": 3}))
    script = f"""
from pathlib import Path
import training.release
from training.pipeline import release

def exported(name, weights, size, folder):
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(name + " anew")
    return "1" * 64

def fitted(corpus, folders, entries, version, *rest, **more):
    found = [(folder / "saved_model.pb").read_text() for folder in folders]
    assert found[0] == "mobilenet anew" and found[1] == "densenet121 as published", found
    assert not (models / "mobilenet" / "4").exists()
    if fails:
        raise KeyboardInterrupt
    return {{"version": version, "networks": entries, "test_time_augmentation": more["turns"]}}

training.release.export_network, training.release.fit_release = exported, fitted
training.release.choose_size = lambda *given: 192
training.release.candidate_sizes = lambda run: (192,)
root = Path({str(tmp_path)!r})
models = root / "models"
before = {{path: path.read_bytes() for path in models.rglob("*") if path.is_file()}}

def again():
    release(root / "data", root / "runs", models, networks=["mobilenet"], cache=root / "cache")

fails = True
try:
    again()
except KeyboardInterrupt:
    pass
assert {{path: path.read_bytes() for path in models.rglob("*") if path.is_file()}} == before
fails = False
again()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=170)
    found = files(models)
    assert found["mobilenet/3/saved_model.pb"] == b"mobilenet as published"
    assert found["mobilenet/4/saved_model.pb"] == b"mobilenet anew"
    served = {name: read_config(configs, name) for name in NETWORKS}
    assert [config.versions for config in served.values()] == [(4,), (3,), (3,), (3,)]
    assert [config.labels for config in served.values()] == [{"stable": 4}, *[{"stable": 3}] * 3]
    assert found["densenet121/3/saved_model.pb"] == b"densenet121 as published"
    stack = json.loads(found["stack.json"])
    assert stack["networks"][0]["sha256"] == "1" * 64
    # It has a number of its own, and nobody looks less often than before because nothing was said of that.
    assert stack["version"] == "4"
    assert (stack["test_time_augmentation"], [entry["turns"] for entry in stack["networks"]]) == (2, [8, 2, 2, 1])
    assert len(found) == 6


@needs_tensorflow
def test_a_stack_names_its_split_unless_a_network_in_it_is_known_to_have_seen_another(tmp_path, models):
    images(tmp_path / "data", "nevus", "melanoma", count=200)
    content = json.loads((models / "stack.json").read_text())
    split = open_corpus(tmp_path / "data", tmp_path / "cache").split
    begin(tmp_path / "runs" / "mobilenet", split, None)
    script = f"""
from pathlib import Path
import training.release
from training.pipeline import release

def exported(name, weights, size, folder):
    folder.mkdir(parents=True)
    return "1" * 64

training.release.export_network = exported
training.release.fit_release = lambda corpus, folders, entries, *rest, **more: {{"networks": entries}}
training.release.choose_size = lambda *given: 192
training.release.candidate_sizes = lambda run: (192,)
root = Path({str(tmp_path)!r})
given = dict(stack_version="4", networks=["mobilenet"], cache=root / "cache")
release(root / "data", root / "runs", root / "models", **given)
"""
    for published, named in (({}, None), ({"split": split}, split), ({"split": "another"}, None)):
        (models / "stack.json").write_text(json.dumps(content | published))
        subprocess.run([sys.executable, "-c", script], check=True, timeout=170)
        assert json.loads((models / "stack.json").read_text())["split"] == named


@needs_tensorflow
def test_a_stack_comes_with_an_age_where_the_images_of_the_validation_side_tell_one():
    script = """
import json
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import training.release
from services.analysis.results import NETWORKS
from training.answers import Answers
from training.samples import Sample

rng = np.random.default_rng(0)
truth = np.repeat([0, 1], 200)
years = np.where(truth == 0, 60, 45) + rng.integers(-20, 20, 400)
logits = np.eye(7)[truth] + rng.normal(0, 1.2, (1, 4, 400, 7))
training.release.run_networks = lambda *given, **named: Answers(logits, None)

def fitted(ages):
    corpus = SimpleNamespace(
        samples=[Sample(str(i), "mine", "", "", "", age=age) for i, age in enumerate(ages)],
        positions=lambda side: {"validation": np.arange(400)}[side],
        malignant=truth == 0,
        allowed=np.eye(7)[truth],
        groups=np.arange(400),
        images=SimpleNamespace(pixels=None),
        cache=None,
    )
    entries = [{"name": name, "version": 1, "sha256": "0" * 64} for name in NETWORKS]
    return training.release.fit_release(corpus, [Path()] * 4, entries, "1", print)

told = fitted([str(age) if i % 4 else "-1" for i, age in enumerate(years)])
assert told["age"]["per_decade"] > 0.2, told["age"]
assert told["age"]["measured_on"] == "validation side of the inner split, 300 images of known age"
untold = fitted([""] * 400)
# What answers without an age is the same.
assert {**untold, "age": told["age"]} == told and "age" not in untold
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, timeout=170, stdout=subprocess.PIPE, encoding="utf-8"
    )
    assert done.stdout.count('{"age": ') == 1
