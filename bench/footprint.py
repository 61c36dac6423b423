"""Memory and start-up of the whole service on this machine, process by process."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from bench.imaging import photograph
from bench.machine import Machine
from tests.conftest import free_port
from tests.e2e.product import Product, running

#: Seconds after the last work until memory counts as idle.
IDLE_AFTER_S = 5.0


def measure(machine: Machine) -> Mapping[str, Any]:
    """Seconds until /readyz, the first time and with a database that is there; megabytes of each process, idle."""
    settings = {"MODELS_DIR": str(machine.models)}
    if machine.calibrated:
        settings["CALIBRATED_DIR"] = str(machine.calibrated)
    with tempfile.TemporaryDirectory(prefix="ll-bench-") as folder:
        ready: list[float] = []
        memory: dict[str, int] = {}
        for _ in range(2):
            begin = time.perf_counter()
            with running(Product(Path(folder) / "data", free_port(), **settings)) as product:
                ready.append(time.perf_counter() - begin)
                product.finished_upload(photograph(1024, 768))
                time.sleep(IDLE_AFTER_S)
                memory = {name: round(size) for name, size in by_process(product, _megabytes).items()}
    return {
        "ready_s": {"first start": round(ready[0], 1), "next start": round(ready[1], 1)},
        "idle_mb": dict(sorted(memory.items(), key=lambda item: -item[1])),
        "idle_mb_together": sum(memory.values()),
    }


def by_process(product: Product, measure_one: Callable[[psutil.Process], float]) -> dict[str, float]:
    """What is measured of each process of the product, added up by what the process does."""
    found: dict[str, float] = {}
    started = product.processes()
    # Cells know nothing of the product, not even its folder: they are found as children of those that do.
    family = {member.pid: member for process in started for member in (process, *_descendants(process))}
    for process in family.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            words = " ".join(process.cmdline())
            name = next((name for mark, name in _NAMES if mark in words), process.name())
            found[name] = found.get(name, 0.0) + measure_one(process)
    return found


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []


def _megabytes(process: psutil.Process) -> float:
    """Proportional set size: memory that several share is divided among them, so that the sum is what is used."""
    return float(process.memory_full_info().pss / 1e6)


_NAMES = (
    ("cell.inside services.preprocessor", "preprocessor's cell"),
    ("cell.inside services.gateway", "gateway's cells"),
    ("serving.embedded", "networks"),
    ("services.preprocessor.worker", "preprocessor"),
    ("stacker.beat", "beat"),
    ("worker beat", "beat"),
    ("services.stacker", "stacker"),
    ("services.webhooks", "webhooks"),
    ("gunicorn", "gateway"),
    # Before the next, for the user that PostgreSQL's processes name is called lesionlens, too.
    ("postgres", "PostgreSQL"),
    ("valkey", "Valkey"),
    ("lesionlens", "supervisor"),
)
