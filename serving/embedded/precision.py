"""In which precision the networks compute, and which precisions are offered at all.

Fewer bits are quicker and answer a little differently. So a precision other than f32 is offered only where
`lesionlens calibrate` has measured, on labelled images and with these very networks and this stack, that it changes
next to nothing. What it measured lies in a folder of its own, or beside the networks where it was published with them,
and counts for the checksums written there alone. For int8 it holds the ranges that make the networks compute in 8 bits,
see :mod:`serving.embedded.quantisation`.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import openvino

from services.analysis.errors import SettingsError
from serving.embedded.quantisation import Ranges
from serving.model_files import checksum, network_file

log = logging.getLogger("serving.embedded")

#: What `lesionlens calibrate` measured: in the folder that it wrote, or, with `--publish`, in the models' folder.
REPORT: Final = "precision.json"
#: What Linux says of the processor, and its words for sums of 8-bit products in 32 bits.
_PROCESSOR: Final = Path("/proc/cpuinfo")
_INTEGER_PRODUCTS: Final = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


class Precision(enum.StrEnum):
    """How the networks compute. AUTO is the quickest one that is offered and that the processor is made for."""

    AUTO = "auto"
    F32 = "f32"
    BF16 = "bf16"
    INT8 = "int8"


@dataclass(frozen=True, slots=True)
class Source:
    """Where one network is read from, and what it computes in.

    Attributes:
        file: SavedModel.
        hint: precision of what is not quantised in it, in OpenVINO's words.
        ranges: of what goes into the convolutions that compute in 8 bits; none for a network that is not quantised.
    """

    file: Path
    hint: str
    ranges: Ranges = field(default_factory=dict)


def offered(calibrated: Path | None, models: Path) -> tuple[Precision, ...]:
    """The precisions that may be used with the networks in `models`, f32 first.

    Without a report, in `calibrated` or beside the networks, or with one about others or another stack: f32 alone.
    """
    return _offered(_report(calibrated, models))


def choose(wanted: Precision, calibrated: Path | None, models: Path) -> Precision:
    """The precision to compute in.

    Raises:
        SettingsError: the one wanted is not offered.
    """
    return wanted if wanted is Precision.F32 else _choose(wanted, _report(calibrated, models))


def sources(wanted: Precision, calibrated: Path | None, models: Path) -> Callable[[str, int, Path], Source]:
    """Where each network is read from: (network, version, folder of its SavedModel) → Source.

    A precision is offered as a mixture: a network that it would change too much computes in a wider one, as the report
    says. What was not measured computes in f32: another version, or another network in the folder it is read from.

    Raises:
        SettingsError: the precision wanted is not offered.
    """
    # Read once: whether it is about these networks takes the checksums of all of them.
    report = {} if wanted is Precision.F32 else _report(calibrated, models)
    precision = _choose(wanted, report)
    log.info("networks compute in %s (asked for: %s)", precision, wanted)
    plan: Mapping[str, str] = {}
    versions: Mapping[str, int] = {}
    if precision is not Precision.F32:
        plan = report["precisions"][precision]["networks"]
        versions = {network["name"]: network["version"] for network in _stack(models)["networks"]}

    def was_measured(name: str, version: int, folder: Path) -> bool:
        if versions.get(name) != version:
            return False
        # Of the models' own folder the report has just been compared; only another one is read for this.
        file, own = folder / "saved_model.pb", network_file(models, name, version)
        return file.samefile(own) or checksum(file) == report["subject"]["networks"][name]

    def find(name: str, version: int, folder: Path) -> Source:
        own = plan.get(name, Precision.F32) if was_measured(name, version, folder) else Precision.F32
        if own == Precision.INT8:
            return Source(folder, beside_int8(), ranges_in(report, name))
        # A part of the int8 mixture may be bf16, which not every processor with integer products has.
        return Source(folder, str(own if _is_quick(Precision(own)) else Precision.F32))

    return find


def ranges_in(report: Mapping[str, Any], network: str) -> Ranges:
    """What a report says of a network in 8 bits: range of what goes into each convolution, by its place."""
    told = report["precisions"][Precision.INT8]["ranges"][network]
    return {int(place): (float(low), float(high)) for place, (low, high) in told.items()}


def subject(models: Path) -> dict[str, Any]:
    """What a report is about: the networks that the stack names, by checksum, and the stack's own numbers."""
    stack = _stack(models)
    networks = {
        network["name"]: checksum(network_file(models, network["name"], network["version"]))
        for network in stack["networks"]
    }
    told = json.dumps([stack["malignant"], stack["bands"]], sort_keys=True)
    return {"networks": networks, "stack": hashlib.sha256(told.encode()).hexdigest()}


def capabilities() -> frozenset[str]:
    """What OpenVINO says that this processor computes quickly: FP32, BF16, INT8, …"""
    return frozenset(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _stack(models: Path) -> Mapping[str, Any]:
    try:
        stack: Mapping[str, Any] = json.loads((models / "stack.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{models} has no stack that can be read: {error}") from error
    return stack


def _offered(report: Mapping[str, Any]) -> tuple[Precision, ...]:
    found = [Precision(name) for name, measured in report.get("precisions", {}).items() if measured["offered"]]
    if report.get("openvino") != openvino.__version__:
        # The places of convolutions are counted in the order in which this library reads them.
        found = [precision for precision in found if precision is not Precision.INT8]
    return (Precision.F32, *(precision for precision in found if precision != Precision.F32 and _is_quick(precision)))


def _choose(wanted: Precision, report: Mapping[str, Any]) -> Precision:
    possible = _offered(report)
    if wanted is Precision.AUTO:
        speeds = report.get("precisions", {})
        return min(possible, key=lambda precision: speeds.get(precision, {}).get("ensemble_ms", float("inf")))
    if wanted not in possible:
        raise SettingsError(
            f"PRECISION {wanted} is not offered for these networks on this machine:"
            f" `lesionlens calibrate --data …` measures whether it may be ({' and '.join(possible)} may)"
        )
    return wanted


def _is_quick(precision: Precision) -> bool:
    if precision is Precision.INT8:
        return has_integer_products()
    return precision is not Precision.BF16 or "BF16" in capabilities()


def beside_int8() -> str:
    """What the rest of an int8 network computes in: bf16 where the processor has it, else f32, which is more exact."""
    return str(Precision.BF16 if "BF16" in capabilities() else Precision.F32)


def has_integer_products() -> bool:
    """Whether the processor sums products of 8-bit numbers in 32 bits (VNNI, AMX).

    Older ones sum in 16 bits, which overflow: slower, and not what was measured. OpenVINO calls both INT8.
    """
    try:
        flags = _PROCESSOR.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return not _INTEGER_PRODUCTS.isdisjoint(flags.split())


def _report(calibrated: Path | None, models: Path) -> Mapping[str, Any]:
    """What was measured of these networks: here, before what was published with them."""
    for folder in (calibrated, models):
        with contextlib.suppress(OSError, ValueError, KeyError, SettingsError):
            if folder is not None:
                report: Mapping[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
                if report["subject"] == subject(models):
                    return report
    return {}
