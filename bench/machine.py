"""What is measured, with what, and on what kind of machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from services.stacker.stacking import STACK_FILE, load_stack
from serving.embedded.engine import usable_cores

#: Instruction sets that decide how quickly convolutions go.
_TELLING = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimddp", "bf16", "i8mm")


@dataclass(frozen=True, slots=True)
class Machine:
    """`contestants` is the Python that has TensorFlow, ONNX Runtime and LitServe."""

    models: Path
    calibrated: Path | None
    contestants: Path
    quick: bool

    @property
    def versions(self) -> Mapping[str, int]:
        """The version of each network that answers are made from. Raises ModelMismatchError without a stack."""
        return load_stack(self.models / STACK_FILE).versions

    def rounds(self, wanted: int) -> int:
        """How often each contestant has its turn."""
        return 3 if self.quick else wanted


def described() -> dict[str, Any]:
    """The machine in general words: nothing that names it."""
    return {
        "cores": usable_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "architecture": platform.machine(),
        "instructions": _instructions(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 1),
    }


def _instructions() -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    flags = next((line.split(":")[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return [name for name in _TELLING if name in flags]
