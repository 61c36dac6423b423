"""One engine with the four networks: `python engine.py NAME MODELS VERSIONS [CALIBRATED]`.

Asked `{"networks": [...], "batch": n}` on a line, it answers on one: the seconds a pass of those networks took, all
begun together, as a server that is asked for the four at once would. NAME: tensorflow, onnxruntime, f32, bf16, int8 or
auto (our engine). VERSIONS: a JSON object, network → version.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from serving.model_files import checksum, network_file

#: Asked for the networks named, with images of a batch: answers when all have answered.
Pass = Callable[[list[str], Any], object]


def tensorflow(models: Path, versions: Mapping[str, int]) -> Pass:
    """The SavedModels' signatures, as TensorFlow Serving executes them."""
    import tensorflow as tf

    loaded = {
        name: tf.saved_model.load(str(network_file(models, name, version).parent)) for name, version in versions.items()
    }
    signatures = {name: model.signatures["serving_default"] for name, model in loaded.items()}

    def one(name: str, images: Any) -> object:
        answer = signatures[name](image=tf.constant(images))
        return {key: value.numpy() for key, value in answer.items()}

    return _at_once(one, keep=loaded)


def onnxruntime(models: Path, versions: Mapping[str, int]) -> Pass:
    """The SavedModels by way of tf2onnx; all cores for each network, ONNX Runtime's own default."""
    import onnxruntime as ort

    folder = Path(os.environ["LESIONLENS_BENCH_ONNX"])
    folder.mkdir(parents=True, exist_ok=True)
    sessions = {}
    for name, version in versions.items():
        source = network_file(models, name, version)
        file = folder / f"{name}-{checksum(source)}.onnx"
        if not file.exists():
            _convert(source.parent, file)
        sessions[name] = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return _at_once(lambda name, images: sessions[name].run(None, {"image": images}), keep=sessions)


def _convert(source: Path, file: Path) -> None:
    import subprocess

    command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(source), "--output", str(file)]
    subprocess.run([*command, "--opset", "17"], check=True, capture_output=True)


def ours(models: Path, versions: Mapping[str, int], precision: str, calibrated: Path | None) -> Pass:
    """Our engine in the server's own arrangement: engines, lanes, order.

    In bf16 every network computes in it, also where that is not offered: how quick it would be is one question, whether
    its answers are good enough another, and `lesionlens calibrate` answers that. "int8" and "auto" are what is offered,
    mixtures.
    """
    from serving import in_process
    from serving.embedded.precision import Source

    if precision == "bf16":
        in_process.sources = lambda *_: lambda name, version, folder: Source(folder, precision)  # noqa: ARG005
    ensembles: dict[tuple[str, ...], Any] = {}

    def passing(names: list[str], images: Any) -> object:
        key = tuple(names)
        if key not in ensembles:
            asked = {name: versions[name] for name in names}
            ensembles[key] = in_process.LocalEnsemble(models, asked, precision, calibrated, pairs_after=1)
        answers = ensembles[key].ask_all(images, 600.0)
        ensembles[key].settle()  # after the first pass with several images, which does not count
        return answers

    return passing


def _at_once(one: Callable[[str, Any], object], keep: Mapping[str, object]) -> Pass:
    pool = ThreadPoolExecutor(len(keep))

    def passing(names: list[str], images: Any) -> object:
        return list(pool.map(lambda name: one(name, images), names))

    return passing


def main() -> None:
    """Load the networks, then answer until standard input ends."""
    name, folder, told, *rest = sys.argv[1:]
    models, versions = Path(folder), json.loads(told)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    if name in ("tensorflow", "onnxruntime"):
        passing = {"tensorflow": tensorflow, "onnxruntime": onnxruntime}[name](models, versions)
    else:
        passing = ours(models, versions, name, Path(rest[0]) if rest else None)
    random = np.random.default_rng(0)
    images: dict[int, Any] = {}
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        batch = asked["batch"]
        if batch not in images:
            images[batch] = random.integers(0, 256, (batch, 224, 224, 3), np.uint8)
        begin = time.perf_counter()
        passing(asked["networks"], images[batch])
        answers.write(f"{time.perf_counter() - begin}\n")
        answers.flush()


if __name__ == "__main__":
    main()
