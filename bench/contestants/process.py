"""The outside of a contestant: starts it, asks it, ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from bench.machine import Machine
from bench.measuring import Turn

ROOT = Path(__file__).resolve().parents[2]


class Contestant:
    """One engine in its process. `seconds` asks for one pass."""

    def __init__(self, name: str, machine: Machine) -> None:
        foreign = name in ("tensorflow", "onnxruntime")
        command = [
            str(machine.contestants) if foreign else sys.executable,
            str(Path(__file__).with_name("engine.py")),
            name,
            str(machine.models),
            json.dumps(dict(machine.versions)),
            *([str(machine.calibrated)] if machine.calibrated else []),
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "",
            "LESIONLENS_BENCH_ONNX": str(ROOT / ".cache" / "bench-onnx"),
        }
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
        )
        if self._answer() != "ready":
            raise self._ended()

    def seconds(self, networks: Sequence[str], batch: int) -> float:
        """Seconds for one pass of `networks` over `batch` images, in the contestant's own clock."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"networks": list(networks), "batch": batch}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if not answer:
            raise self._ended()
        return float(answer)

    def turn(self, networks: Sequence[str], batch: int) -> Turn:
        """A turn that is one such pass."""
        return lambda: self.seconds(networks, batch)

    def memory_bytes(self) -> int:
        """Memory that is this process's alone."""
        return int(psutil.Process(self._process.pid).memory_full_info().uss)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _ended(self) -> RuntimeError:
        assert self._process.stderr is not None
        self._process.kill()
        return RuntimeError(f"{self._process.args} ended: {self._process.stderr.read()[-2000:]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
