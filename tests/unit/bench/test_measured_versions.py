"""`make bench` measures the networks that the stack names, whatever their number."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from bench import __main__ as command
from bench import networks, peer
from bench.contestants import engine, process
from bench.machine import Machine
from serving import in_process
from serving.answers import NETWORKS
from serving.embedded import server
from serving.embedded.precision import Precision

PUBLISHED = Path(__file__).parents[3] / "serving" / "models" / "stack.json"
VERSIONS = dict(zip(NETWORKS, (3, 1, 2, 5), strict=True))


@pytest.fixture
def models(tmp_path):
    """Networks of which an older and a newer version lie beside the one that the stack was fitted for."""
    folder = tmp_path / "models"
    for name, version in VERSIONS.items():
        for number in (version, version + 1, 1):
            saved = folder / name / str(number)
            saved.mkdir(parents=True, exist_ok=True)
            (saved / "saved_model.pb").write_text(f"{name} {number}")
    stack = json.loads(PUBLISHED.read_text())
    for network in stack["networks"]:
        network["version"] = VERSIONS[network["name"]]
    (folder / "stack.json").write_text(json.dumps(stack))
    return folder


def folders(models):
    return [str(models / name / str(version)) for name, version in VERSIONS.items()]


def library(monkeypatch, name, **contents):
    """A library of the contestants' own environment, of which only these parts are there."""
    module = ModuleType(name)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


class LitAPI:
    def __init__(self, **_):
        pass


@pytest.mark.parametrize("contestant", ["engine", "litserve"])
def test_tensorflow_loads_the_versions_that_the_stack_names(contestant, models, monkeypatch):
    loaded = []

    def load(folder):
        loaded.append(folder)
        return SimpleNamespace(signatures={"serving_default": None})

    library(monkeypatch, "tensorflow", saved_model=SimpleNamespace(load=load), constant=None)
    library(monkeypatch, "litserve", LitAPI=LitAPI)
    if contestant == "engine":
        engine.tensorflow(models, VERSIONS)
    else:
        from bench.contestants.litserve_peer import Networks

        Networks(models, VERSIONS).setup("cpu")
    assert loaded == folders(models)


def test_onnx_runtime_is_given_what_was_made_of_the_very_file(models, tmp_path, monkeypatch):
    converted, opened = [], []

    def convert(source, file):
        converted.append(str(source))
        file.write_text("a network")

    library(monkeypatch, "onnxruntime", InferenceSession=lambda file, **_: opened.append(file))
    monkeypatch.setattr(engine, "_convert", convert)
    monkeypatch.setenv("LESIONLENS_BENCH_ONNX", str(tmp_path / "onnx"))
    engine.onnxruntime(models, VERSIONS)
    engine.onnxruntime(models, VERSIONS)
    assert converted == folders(models)
    # Another network under the same number, older than what was converted: as `git checkout` or an archive leaves it.
    changed = models / "densenet169" / "2"
    (changed / "saved_model.pb").write_text("another densenet169")
    engine.onnxruntime(models, VERSIONS)
    assert converted == [*folders(models), str(changed)]
    assert len(set(opened)) == len(NETWORKS) + 1


def test_our_engine_loads_the_versions_that_the_stack_names(models, monkeypatch):
    asked = []

    class Ensemble:
        def __init__(self, folder, versions, *_, **__):
            asked.append(versions)

        def ask_all(self, *_):
            return ()

        def settle(self):
            pass

    monkeypatch.setattr(in_process, "LocalEnsemble", Ensemble)
    passing = engine.ours(models, VERSIONS, "f32", None)
    passing(["densenet169"], None)
    passing(list(NETWORKS), None)
    assert asked == [{"densenet169": 2}, VERSIONS]


@pytest.mark.parametrize("name", ["tensorflow", "f32"])
def test_a_contestant_is_told_the_versions(name, models, tmp_path, monkeypatch):
    told = tmp_path / "told"
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {told}\necho ready\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with process.Contestant(name, Machine(models, None, interpreter, quick=True)):
        _, _, folder, versions = told.read_text().splitlines()
    assert (folder, json.loads(versions)) == (str(models), VERSIONS)


def test_operations_are_counted_of_the_versions_that_the_stack_names(models, monkeypatch):
    counted = []

    class Contestant:
        def __init__(self, *_):
            pass

        def turn(self, *_):
            return lambda: 1.0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(networks, "Contestant", Contestant)
    monkeypatch.setattr(networks, "multiply_adds", lambda folder: counted.append(str(folder)) or 1)
    monkeypatch.setattr(networks, "in_turns", lambda turns, _: dict.fromkeys(turns, 1.0))
    monkeypatch.setattr(networks, "_precisions", lambda _: ["f32"])
    monkeypatch.setattr(networks, "peak", lambda _: (lambda: None, 1))
    networks.measure(Machine(models, None, Path("python"), quick=True))
    assert counted == folders(models)


def test_the_server_next_to_litserve_serves_the_versions_that_the_stack_names(models, tmp_path):
    configs = tmp_path / "configs"
    configs.mkdir()
    options = server.parse(
        peer.served(Machine(models, None, Path("python"), quick=True), Precision.BF16, 8500, configs)
    )
    assert (options.endpoints, options.precision) == ({8500: NETWORKS}, Precision.BF16)
    assert {name: config.versions for name, config in options.configured.items()} == {
        name: (version,) for name, version in VERSIONS.items()
    }


def test_without_a_stack_it_says_so_before_it_measures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "--models", str(tmp_path), "--results", str(tmp_path / "results")])
    with pytest.raises(SystemExit):
        command.main()
    assert "stack.json cannot be used" in capsys.readouterr().err


def test_preprocessing_needs_no_stack(tmp_path, monkeypatch):
    arguments = ["--models", str(tmp_path), "--results", str(tmp_path / "results"), "--only", "preprocessing"]
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    monkeypatch.setattr(command, "SECTIONS", {**command.SECTIONS, "preprocessing": lambda _machine: {}})
    monkeypatch.setattr(command.report, "markdown", str)
    monkeypatch.setattr(command.report, "plot", str)
    command.main()
    assert "preprocessing" in json.loads((tmp_path / "results" / "bench.json").read_text())
