"""Which precisions may be offered for the exported networks: measured on labelled images, never assumed.

Fewer bits move every logit a little. What counts is what becomes of that behind the stack: how far its AUC falls on the
test side of the split, and how many photographs change their band. A precision that costs more is made milder, network
by network and, for int8, layer by layer, until it passes; one that cannot pass is not offered.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino

from services.stacker.turns import turned
from serving.embedded.engine import usable_cores
from serving.embedded.precision import REPORT, Precision, capabilities, pure_file, quantised_file, subject
from training.answers import side_by_side
from training.corpus import Corpus
from training.evaluation import auc_with_interval
from training.stacking import malignant_logits, stack_from, turns_of

Array = np.ndarray[Any, Any]
Log = Callable[[str], None]

#: How far the stack's AUC may fall.
MAX_AUC_FALL: Final = 0.002
#: Share of photographs that may change their band.
MAX_BANDS_CHANGED: Final = 0.01
#: Images of the validation side that int8's ranges are taken from; nncf's own default, and more changed nothing.
CALIBRATION_IMAGES: Final = 300
#: Share of a network's layers, the noisiest first, that int8 leaves in 32 bits: tried one after another.
WIDE_SHARES: Final = (0.0, 0.5)
#: Images on which the noise of layers is compared.
_NOISE_IMAGES: Final = 8
#: What is quantised by nncf and can be left out by name.
_LAYERS: Final = ("Convolution", "GroupConvolution", "MatMul")


@dataclass(frozen=True, slots=True)
class Variant:
    """One network in one precision: where it is read from, OpenVINO's hint, and its answers on the measured images.

    Attributes:
        precision: f32, bf16 or int8.
        file: SavedModel or OpenVINO model.
        hint: precision of what is not quantised.
        class_logits: float ``[turns,n,7]``.
        ms: of one image on one thread.
        wide_share: of layers that int8 left in 32 bits.
    """

    precision: Precision
    file: Path
    hint: str
    class_logits: Array
    ms: float
    wide_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a mixture of variants changes, behind the stack."""

    auc: float
    auc_fall: float
    bands_changed: float

    @property
    def passes(self) -> bool:
        """Whether it may be offered."""
        return self.auc_fall <= MAX_AUC_FALL and self.bands_changed <= MAX_BANDS_CHANGED


def calibrate(
    corpus: Corpus, models: Path, folder: Path, *, images: int | None, log: Log, int8: bool = True
) -> dict[str, Any]:
    """Measure every precision that this machine can compute in, and write the report and int8 networks to ``folder``.

    Args:
        corpus: the labelled images; int8's ranges come from the validation side, all measurements from the test side.
        models: the exported networks with their ``stack.json``.
        folder: is replaced.
        images: of the test side, spread evenly; ``None`` means all.
        log: receives one line per step.
        int8: make int8 networks, too. They are files of their own; what computes in bf16 is what is there already.
    """
    content = json.loads((models / "stack.json").read_text(encoding="utf-8"))
    turns = turns_of(content)
    names = [str(entry["name"]) for entry in content["networks"]]
    folders = {str(e["name"]): models / str(e["name"]) / str(e["version"]) for e in content["networks"]}
    positions = _spread(corpus.positions("test"), images)
    pixels = [np.asarray(corpus.images.pixels[i]) for i in positions]
    ranges = [np.asarray(corpus.images.pixels[i]) for i in _spread(corpus.positions("validation"), CALIBRATION_IMAGES)]
    judge = _Judge(content, names, corpus.malignant[positions])

    def measured(name: str, precision: Precision, file: Path, hint: str, wide_share: float = 0.0) -> Variant:
        class_logits, ms = answers(file, hint, pixels, turns[name])
        log(f"{name} in {precision}{f', {wide_share:.0%} of layers in f32' if wide_share else ''}: {ms:.1f} ms")
        return Variant(precision, file, hint, class_logits, ms, wide_share)

    def all_measured(precision: Precision) -> dict[str, Variant]:
        # Two at once on two cores, each on one thread: as the server has them compute.
        with ThreadPoolExecutor(usable_cores(), "measured") as lanes:
            found = lanes.map(lambda name: measured(name, precision, folders[name], str(precision)), names)
            return dict(zip(names, found, strict=True))

    judge.plain = plain = all_measured(Precision.F32)
    ladders: dict[Precision, dict[str, list[Variant]]] = {Precision.F32: {name: [plain[name]] for name in names}}
    if "BF16" in capabilities():
        ladders[Precision.BF16] = {name: [each, plain[name]] for name, each in all_measured(Precision.BF16).items()}
    if int8 and _has_nncf(log):
        versions = {str(entry["name"]): int(entry["version"]) for entry in content["networks"]}
        ladders[Precision.INT8] = {}
        for name in names:
            rungs: list[Variant] = []
            noisiest: list[int] = []
            for share in WIDE_SHARES:
                file = pure_file(folder, name, versions[name]).with_name(f"wide-{share:g}.xml")
                if share:
                    noisiest = noisiest_layers(folders[name], rungs[0].file, ranges[:_NOISE_IMAGES])
                quantise(folders[name], file, ranges, noisiest[: int(share * len(noisiest))])
                rungs.append(measured(name, Precision.INT8, file, "f32", share))
            ladders[Precision.INT8][name] = [*rungs, *ladders.get(Precision.BF16, {}).get(name, [])[:1], plain[name]]
    precisions = {}
    for precision, ladder in ladders.items():
        chosen, cost, undiluted = judge.mildest(ladder)
        offered = cost.passes and (
            precision is Precision.F32 or any(variant.precision is precision for variant in chosen.values())
        )
        for name, variant in chosen.items():
            if offered and variant.precision is Precision.INT8:
                _keep(variant.file, quantised_file(folder, name, versions[name]))
        precisions[str(precision)] = {
            "offered": offered,
            "networks": {name: str(variant.precision) for name, variant in chosen.items()},
            "layers_in_f32": {name: v.wide_share for name, v in chosen.items() if v.precision is Precision.INT8},
            "auc": cost.auc,
            "auc_fall": cost.auc_fall,
            "bands_changed": cost.bands_changed,
            "all_networks_in_it": {"auc_fall": undiluted.auc_fall, "bands_changed": undiluted.bands_changed},
            "ensemble_ms": round(sum(variant.ms for variant in chosen.values()), 2),
        }
    report = {"subject": subject(models), "images": len(pixels), "precisions": precisions}
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("int8/*/*/wide-0.*.*"):
        left.unlink()
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


class _Judge:
    """Compares mixtures of variants with all networks in f32."""

    def __init__(self, content: Mapping[str, Any], names: Sequence[str], malignant: Array) -> None:
        self._stack = stack_from(content)
        self._names = names
        self._malignant = malignant
        self.plain: Mapping[str, Variant] = {}

    def cost(self, chosen: Mapping[str, Variant]) -> Cost:
        """What ``chosen`` changes."""
        reference, now = self._probability(self.plain), self._probability(chosen)
        auc = float(auc_with_interval(now, self._malignant)[0])
        return Cost(
            auc=auc,
            auc_fall=float(auc_with_interval(reference, self._malignant)[0]) - auc,
            bands_changed=float((self._bands(now) != self._bands(reference)).mean()),
        )

    def mildest(self, ladders: Mapping[str, Sequence[Variant]]) -> tuple[dict[str, Variant], Cost, Cost]:
        """The quickest mixture found that passes, what it costs, and what the first rungs of all would have cost.

        Greedy: as long as it does not pass, the network whose next rung takes most noise out of the stack's logit for
        the time it costs goes one rung up. The last rungs are f32, so it ends.
        """
        at = dict.fromkeys(ladders, 0)

        def chosen() -> dict[str, Variant]:
            return {name: ladders[name][rung] for name, rung in at.items()}

        first = cost = self.cost(chosen())
        while not cost.passes:
            movable = [name for name, rung in at.items() if rung + 1 < len(ladders[name])]
            if not movable:
                break
            name = max(
                movable, key=lambda name: self._relief(name, ladders[name][at[name]], ladders[name][at[name] + 1])
            )
            at[name] += 1
            cost = self.cost(chosen())
        return chosen(), cost, first

    def _relief(self, name: str, now: Variant, then: Variant) -> float:
        """Noise in the stack's logit that a rung takes away, for each millisecond that it costs."""
        return (self._noise(name, now) - self._noise(name, then)) / max(then.ms - now.ms, 0.1)

    def _noise(self, name: str, variant: Variant) -> float:
        weight = abs(float(self._stack.malignant[list(self._names).index(name)]))
        shift = malignant_logits(variant.class_logits[:, None]) - malignant_logits(
            self.plain[name].class_logits[:, None]
        )
        return weight * float(np.sqrt(np.mean(shift**2)))

    def _probability(self, chosen: Mapping[str, Variant]) -> Array:
        return self._stack.probability(side_by_side([chosen[name].class_logits for name in self._names]))

    def _bands(self, probability: Array) -> Array:
        return (probability >= self._stack.low_below).astype(int) + (probability >= self._stack.high_from)


def answers(file: Path, hint: str, pixels: Sequence[Array], turns: int) -> tuple[Array, float]:
    """Class logits ``[turns,n,7]`` of the images, and the median milliseconds of one image on one thread.

    The images are looked at from as many sides as the service does: a part of the noise of few bits averages out.
    """
    request = _compiled(openvino.Core().read_model(file), hint)
    logits, seconds = [], []
    for square in pixels:
        for view in turned(square, turns):
            begin = time.perf_counter()
            outputs = request.infer({0: view[None]})
            seconds.append(time.perf_counter() - begin)
            logits.append(np.array(outputs["class_logits"])[0])
    of_images = np.array(logits).reshape(len(pixels), turns, -1)
    return of_images.swapaxes(0, 1), float(np.median(seconds)) * 1000


def quantise(source: Path, target: Path, images: Sequence[Array], wide: Sequence[int]) -> None:
    """Write the network at ``source`` with 8-bit weights and activations; layers at the places ``wide`` stay wide.

    Post-training quantisation with ranges from real images and corrected biases (Nagel et al., "Data-free quantization
    through weight equalization and bias correction", 2019), by nncf.
    """
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = _still(openvino.Core().read_model(source))
    # Names are made anew with every reading; the order is not.
    names = [node.get_friendly_name() for node in _layers(model)]
    quantised = nncf.quantize(
        model,
        nncf.Dataset(list(images), lambda square: square[None]),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        ignored_scope=nncf.IgnoredScope(names=[names[at] for at in wide], validate=False),
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(quantised, target, compress_to_fp16=True)


def noisiest_layers(source: Path, quantised: Path, images: Sequence[Array]) -> list[int]:
    """Places of a network's layers by how much 8 bits changed what comes out of them, the most first."""
    core = openvino.Core()
    plain, rough = _still(core.read_model(source)), core.read_model(quantised)
    layers = [_layers(model) for model in (plain, rough)]
    for model, nodes in zip((plain, rough), layers, strict=True):
        model.add_outputs([node.output(0) for node in nodes])
    noise = np.zeros(len(layers[0]))
    requests = [_compiled(model, "f32") for model in (plain, rough)]
    for square in images:
        pairs = [list(request.infer({0: square[None]}).values())[-len(noise) :] for request in requests]
        for at, (exact, changed) in enumerate(zip(*pairs, strict=True)):
            noise[at] += float(np.mean((exact - changed) ** 2) / (np.mean(exact**2) + 1e-12))
    return [int(at) for at in np.argsort(-noise)]


def _layers(model: openvino.Model) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() in _LAYERS]


def lines(report: Mapping[str, Any]) -> list[str]:
    """The report, for people."""
    told = [f"{report['images']} images of the test side; AUC may fall by {MAX_AUC_FALL}, bands change for 1 %:"]
    for name, measured in report["precisions"].items():
        whole = measured["all_networks_in_it"]
        told.append(
            f"{name:5} {'offered' if measured['offered'] else 'not offered':12} {measured['ensemble_ms']:6.1f} ms  "
            f"AUC {measured['auc']:.4f} ({-measured['auc_fall']:+.4f}), bands changed {measured['bands_changed']:.2%}  "
            f"[{', '.join(f'{network} {precision}' for network, precision in measured['networks'].items())}]"
        )
        if name != "f32":
            told.append(f"      all four in {name}: AUC {-whole['auc_fall']:+.4f}, bands {whole['bands_changed']:.2%}")
    return told


def _spread(positions: Array, count: int | None) -> Array:
    if count is None or count >= len(positions):
        return positions
    return np.asarray(positions[np.linspace(0, len(positions) - 1, count).astype(int)])


def _still(model: openvino.Model) -> openvino.Model:
    """The model for one image."""
    shape = model.inputs[0].get_partial_shape()
    model.reshape([1, *(dimension.get_length() for dimension in list(shape)[1:])])
    return model


def _compiled(model: openvino.Model, hint: str) -> openvino.InferRequest:
    options = {"INFERENCE_PRECISION_HINT": hint, "ENABLE_CPU_PINNING": False, "INFERENCE_NUM_THREADS": 1}
    return openvino.Core().compile_model(_still(model), "CPU", options).create_infer_request()


def _has_nncf(log: Log) -> bool:
    try:
        import nncf  # noqa: F401
    except ImportError:
        log("int8 is not tried: the package nncf is not installed (requirements/training.txt has it for Python 3.11)")
        return False
    return True


def _keep(file: Path, target: Path) -> None:
    for ending in (".xml", ".bin"):
        target.with_suffix(ending).write_bytes(file.with_suffix(ending).read_bytes())
