"""Which precisions may be offered for the exported networks: measured on labelled images, never assumed.

Fewer bits move every logit a little. What counts is what becomes of that behind the stack: how far its AUC falls on the
test side of the split, and how many photographs change their band. A precision that costs more is made milder, network
by network and, for int8, convolution by convolution, until it passes; one that cannot pass is not offered.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino

from services.stacker.turns import pose_of, turned
from serving.embedded.engine import usable_cores
from serving.embedded.graph import read_graph
from serving.embedded.precision import (
    REPORT,
    Precision,
    Source,
    beside_int8,
    capabilities,
    has_integer_products,
    subject,
)
from serving.embedded.quantisation import Ranges, convolutions
from training.answers import side_by_side
from training.corpus import Corpus, refuse_one_kind
from training.evaluation import auc_with_interval
from training.models_folder import published_stack, write_json
from training.stacking import malignant_logits, stack_from, turns_of

Array = np.ndarray[Any, Any]
Log = Callable[[str], None]

#: How far the stack's AUC may fall.
MAX_AUC_FALL: Final = 0.002
#: Share of photographs that may change their band.
MAX_BANDS_CHANGED: Final = 0.01
#: Images of the validation side that int8's ranges are taken from; nncf's own default.
CALIBRATION_IMAGES: Final = 300
#: Share of a network's multiply-adds that int8 leaves wide, see `worst_first`: tried one after another.
WIDE_SHARES: Final = (0.0, 0.1, 0.25, 0.5)
#: What is compared by itself: the first convolutions, on a few images. Pictures are large there and channels few; in
#: DenseNet121 the ninety others make a fifth of the noise together, and each takes a second to compile.
_COMPARED_CONVOLUTIONS: Final = 32
_COMPARED_IMAGES: Final = 24
#: Share of the looks that were quicker than the time that counts.
_QUICK: Final = 0.1


@dataclass(frozen=True, slots=True)
class Variant:
    """One network in one precision: where it is read from, and its answers on the measured images.

    Attributes:
        precision: f32, bf16 or int8.
        source: what the server would read.
        class_logits: float ``[turns,n,7]``.
        ms: of one image from all its sides, on one thread.
        wide_share: of the multiply-adds that int8 left wide, at most.
    """

    precision: Precision
    source: Source
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


def calibrate(corpus: Corpus, models: Path, folder: Path, *, images: int | None, log: Log) -> dict[str, Any]:
    """Measure every precision that this machine can compute in, and write the report to ``folder``.

    Args:
        corpus: the labelled images; int8's ranges come from the validation side, all measurements from the test side.
        models: the exported networks with their ``stack.json``.
        folder: where the report is replaced.
        images: of the test side, spread evenly; ``None`` means all.
        log: receives one line per step.
    """
    content = published_stack(models)
    positions = _spread(corpus.positions("test"), images)
    refuse_one_kind(corpus, positions, "test")
    turns = turns_of(content)
    names = [str(entry["name"]) for entry in content["networks"]]
    folders = {str(e["name"]): models / str(e["name"]) / str(e["version"]) for e in content["networks"]}
    pixels = [np.asarray(corpus.images.pixels[i]) for i in positions]
    others = [corpus.images.pixels[i] for i in _spread(corpus.positions("validation"), CALIBRATION_IMAGES)]
    in_pose = [turned(square, 1, pose_of(square))[0] for square in others]
    judge = _Judge(content, names, corpus.malignant[positions])

    def measured(name: str, precision: Precision, source: Source, wide_share: float = 0.0) -> Variant:
        class_logits, ms = answers(source, pixels, turns[name])
        wide = f", {wide_share:.0%} of the work at most not in 8 bits" if wide_share else ""
        log(f"{name} in {precision}{wide}: {ms:.1f} ms")
        return Variant(precision, source, class_logits, ms, wide_share)

    def in_lanes(work: Callable[[str], Any]) -> dict[str, Any]:
        # Two at once on two cores, each on one thread: as the server has them compute.
        with ThreadPoolExecutor(usable_cores(), "measured") as lanes:
            return dict(zip(names, lanes.map(work, names), strict=True))

    def all_measured(precision: Precision) -> dict[str, Variant]:
        return in_lanes(lambda name: measured(name, precision, Source(folders[name], str(precision))))

    judge.plain = plain = all_measured(Precision.F32)
    ladders: dict[Precision, dict[str, list[Variant]]] = {Precision.F32: {name: [plain[name]] for name in names}}
    if "BF16" in capabilities():
        ladders[Precision.BF16] = {name: [each, plain[name]] for name, each in all_measured(Precision.BF16).items()}
    if has_integer_products() and _has_nncf(log):
        found = {name: ranges_of(folders[name], in_pose) for name in names}

        def rungs(name: str) -> list[Variant]:
            order = worst_first(folders[name], found[name], in_pose[:_COMPARED_IMAGES])
            work = multiply_adds(read_graph(openvino.Core(), Source(folders[name], "f32")))
            variants = []
            for share in WIDE_SHARES:
                wide = wide_part(order, work, share)
                narrow = {at: ends for at, ends in found[name].items() if at not in wide}
                variants.append(measured(name, Precision.INT8, Source(folders[name], beside_int8(), narrow), share))
            return variants

        wider = ladders.get(Precision.BF16, {})
        ladders[Precision.INT8] = {
            name: [*each, *wider.get(name, [])[:1], plain[name]] for name, each in in_lanes(rungs).items()
        }
    precisions = {}
    for precision, ladder in ladders.items():
        chosen, cost, undiluted = judge.quickest(ladder)
        offered = cost.passes and (
            precision is Precision.F32 or any(variant.precision is precision for variant in chosen.values())
        )
        narrow = {name: variant for name, variant in chosen.items() if variant.precision is Precision.INT8}
        precisions[str(precision)] = {
            "offered": offered,
            "networks": {name: str(variant.precision) for name, variant in chosen.items()},
            "ranges": {name: variant.source.ranges for name, variant in narrow.items()},
            "auc": cost.auc,
            "auc_fall": cost.auc_fall,
            "bands_changed": cost.bands_changed,
            "all_networks_in_it": {"auc_fall": undiluted.auc_fall, "bands_changed": undiluted.bands_changed},
            "ensemble_ms": round(sum(variant.ms for variant in chosen.values()), 2),
        }
    report = {
        "subject": subject(models),
        "openvino": openvino.__version__,
        "images": len(pixels),
        "precisions": precisions,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / REPORT, report)
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

    def quickest(self, ladders: Mapping[str, Sequence[Variant]]) -> tuple[dict[str, Variant], Cost, Cost]:
        """The quickest mixture that passes, what it costs, and what the first variants of all would have cost.

        Every mixture is looked at, the quickest first; six variants of four networks make 1,296. The last variants are
        f32, so one passes.
        """
        mixtures = [dict(zip(ladders, chosen, strict=True)) for chosen in itertools.product(*ladders.values())]
        first = self.cost(mixtures[0])
        for mixture in sorted(mixtures, key=lambda mixture: sum(variant.ms for variant in mixture.values())):
            cost = self.cost(mixture)
            if cost.passes:
                break
        return mixture, cost, first

    def _probability(self, chosen: Mapping[str, Variant]) -> Array:
        return self._stack.probability(side_by_side([chosen[name].class_logits for name in self._names]))

    def _bands(self, probability: Array) -> Array:
        return (probability >= self._stack.low_below).astype(int) + (probability >= self._stack.high_from)


def answers(source: Source, pixels: Sequence[Array], turns: int) -> tuple[Array, float]:
    """Class logits ``[turns,n,7]`` of the images, and the milliseconds of one on one thread, from all sides.

    The images are looked at from as many sides as the service does: a part of the noise of few bits averages out.
    """
    request = _compiled(read_graph(openvino.Core(), source), source.hint)
    logits, seconds = [], []
    for square in pixels:
        for view in turned(square, turns, pose_of(square)):
            begin = time.perf_counter()
            outputs = request.infer({0: view[None]})
            seconds.append(time.perf_counter() - begin)
            logits.append(np.array(outputs["class_logits"])[0])
    of_images = np.array(logits).reshape(len(pixels), turns, -1)
    return of_images.swapaxes(0, 1), undisturbed(seconds) * turns * 1000


def undisturbed(seconds: Sequence[float]) -> float:
    """The time that a tenth of the looks were quicker than.

    Variants are measured minutes apart, and what else the machine does only adds; the quickest of all may be luck.
    """
    return float(np.quantile(seconds, _QUICK))


def ranges_of(network: Path, images: Sequence[Array]) -> Ranges:
    """The range of what goes into each convolution of a SavedModel, by its place: lowest and highest value met.

    Found by nncf on real images. By itself it would quantise every operation it can, and clip each range to the mean
    of the images' extremes; that moved the DenseNets' logits by 1.6 (root mean square). Convolutions alone and whole
    ranges move them by 0.1, for the same time.
    """
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = read_graph(openvino.Core(), Source(network, "f32"))
    others = {node.get_type_name() for node in model.get_ops()} - {"Convolution", "Constant", "Parameter", "Result"}
    quantised = nncf.quantize(
        model,
        nncf.Dataset(list(images), lambda square: square[None]),
        subset_size=len(images),
        ignored_scope=nncf.IgnoredScope(types=sorted(others), validate=False),
        advanced_parameters=AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            # Ranges are all that is kept, and whole ranges leave no bias worth correcting.
            disable_bias_correction=True,
        ),
    )
    found = {place: _range_into(node) for place, node in enumerate(convolutions(quantised))}
    return {place: ends for place, ends in found.items() if ends is not None}


def _range_into(convolution: Any) -> tuple[float, float] | None:
    """What nncf says of a convolution's input; None where it left that alone."""
    before = convolution.input_value(0).get_node()
    while before.get_type_name() == "Pad":
        before = before.input_value(0).get_node()
    if before.get_type_name() != "FakeQuantize":
        return None
    low, high = (before.input_value(end).get_node().get_data() for end in (1, 2))
    return float(np.min(low)), float(np.max(high))


def worst_first(network: Path, ranges: Ranges, images: Sequence[Array]) -> list[int]:
    """Places of the first convolutions in ``ranges``, those in front whose 8 bits cost most for the time they save.

    The cost is how far the malignant logit moves when one convolution alone has 8 bits (mean square), the time goes by
    its multiply-adds.
    """
    exact = _malignant(Source(network, "f32"), images)
    first = sorted(ranges)[:_COMPARED_CONVOLUTIONS]
    moved = {at: _malignant(Source(network, "f32", {at: ranges[at]}), images) - exact for at in first}
    work = multiply_adds(read_graph(openvino.Core(), Source(network, "f32")))
    return sorted(first, key=lambda at: float(np.mean(moved[at] ** 2)) / work[at], reverse=True)


def wide_part(order: Sequence[int], work: Sequence[int], share: float) -> set[int]:
    """The first of ``order`` that make up at most ``share`` of all multiply-adds in ``work``."""
    within = np.cumsum([work[at] for at in order]) <= share * sum(work)
    return {at for at, inside in zip(order, within, strict=True) if inside}


def multiply_adds(model: openvino.Model) -> list[int]:
    """Multiply-adds of each convolution for one image, by its place."""
    places = convolutions(model)
    return [int(np.prod(node.output(0).shape)) * int(np.prod(node.input_value(1).shape[1:])) for node in places]


def _malignant(source: Source, images: Sequence[Array]) -> Array:
    """Malignant logits ``[n]`` of the images as they are."""
    return malignant_logits(answers(source, images, 1)[0])[:, 0]


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


def _compiled(model: openvino.Model, hint: str) -> openvino.InferRequest:
    options = {"INFERENCE_PRECISION_HINT": hint, "ENABLE_CPU_PINNING": False, "INFERENCE_NUM_THREADS": 1}
    return openvino.Core().compile_model(model, "CPU", options).create_infer_request()


def _has_nncf(log: Log) -> bool:
    try:
        import nncf  # noqa: F401
    except ImportError:
        log("int8 is not tried: the package nncf is not installed (requirements/training.txt has it for Python 3.11)")
        return False
    return True
