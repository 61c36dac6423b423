"""The whole way, from the upload to the answer, next to the bare work on the same cores."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import requests

from bench.footprint import by_process
from bench.imaging import photograph
from bench.load import Load, throughput
from bench.machine import Machine
from bench.measuring import ms, quantile
from services.preprocessor.imaging import PreparedLesion, prepare_lesion
from services.stacker.look import look
from services.stacker.stacking import load_stack
from serving.embedded.precision import Precision, choose
from serving.in_process import LocalEnsemble
from tests.conftest import free_port
from tests.e2e.product import ROOT, Product, running

UPLOADS = 40
CLIENTS = (1, 2, 4, 8, 16, 32)
SECONDS = 8.0
#: Clients with whom core time is counted and workers are added.
CROWD = 8
#: Seconds until a worker that was added takes work.
JOINS_WITHIN_S = 8.0
#: Seconds in which the crowd's uploads do not count: after them the model server has prepared the networks for pairs
#: of images (`serving/embedded/engine.py`), NASNetMobile, too, which is shown some only where two uploads meet.
WARM_S = 25.0
#: Seconds that the last of that may take.
PREPARES_WITHIN_S = 10.0
#: Of the web page's size, each a different picture.
SIZE = (1024, 768)


def measure(machine: Machine) -> Mapping[str, Any]:
    """Milliseconds of one client's uploads and of the bare work in turns; uploads a second by number of clients."""
    stack = load_stack(machine.models / "stack.json")
    files = [photograph(*SIZE, seed=seed) for seed in range(8)]
    precision = choose(Precision.AUTO, machine.calibrated, machine.models)
    settings = {"MODELS_DIR": str(machine.models), "MAX_WAITING": "100000", "GATEWAY_THREADS": "80"}
    if machine.calibrated:
        settings["CALIBRATED_DIR"] = str(machine.calibrated)
    with (
        LocalEnsemble(machine.models, stack.versions, precision, machine.calibrated, pairs_after=1) as networks,
        tempfile.TemporaryDirectory(prefix="ll-bench-") as folder,
        running(Product(Path(folder) / "data", free_port(), **settings)) as product,
    ):
        local = threading.local()
        # Put together once: clients share the cores with what is measured.
        sent = {
            file: requests.Request(
                "POST", f"{product.base_url}/v1/analyses", files={"image": ("photo.jpg", file)}, data={"force": "true"},
                headers={"Prefer": "wait=25"},
            ).prepare()
            for file in files
        }  # fmt: skip

        def upload(file: bytes) -> None:
            if not hasattr(local, "session"):
                local.session = requests.Session()
            answer = local.session.send(sent[file], timeout=60)
            assert answer.status_code == 200, answer.text

        def bare(file: bytes) -> tuple[float, float]:
            begin = time.perf_counter()
            lesion = prepare_lesion(file, force=True)
            assert isinstance(lesion, PreparedLesion)
            middle = time.perf_counter()
            look(lesion.tensor, networks, stack, None, 60.0, force=True)
            return middle - begin, time.perf_counter() - middle

        for file in files[:3]:
            bare(file)
        networks.settle()
        throughput(partial(upload, files[0]), CROWD, WARM_S if not machine.quick else 2.0)
        time.sleep(PREPARES_WITHIN_S)
        whole, prepared, asked = [], [], []
        for number in range(machine.rounds(UPLOADS)):
            file = files[number % len(files)]
            begin = time.perf_counter()
            upload(file)
            whole.append(time.perf_counter() - begin)
            preparing, asking = bare(file)
            prepared.append(preparing)
            asked.append(asking)
        seconds = SECONDS if not machine.quick else 2.0
        crowds = _crowds(product, upload, files, seconds)
        lesion = prepare_lesion(files[0], force=True)
        assert isinstance(lesion, PreparedLesion)
        alone = throughput(lambda: look(lesion.tensor, networks, stack, None, 60.0, force=True), 1, seconds).per_s
    bare_ms = ms(statistics.median([one + other for one, other in zip(prepared, asked, strict=True)]))
    return {
        "precision": str(precision),
        "sides_looked_at": dict(stack.turns),
        "upload_to_done_ms": {
            "p50": ms(statistics.median(whole)), "p95": ms(quantile(whole, 0.95)), "p99": ms(quantile(whole, 0.99)),
        },
        "bare_ms": {
            "preprocessing": ms(statistics.median(prepared)), "networks": ms(statistics.median(asked)), "both": bare_ms,
        },
        "p50_over_bare": round(ms(statistics.median(whole)) / bare_ms, 2),
        **crowds,
        "bare_ensembles_per_s": round(alone, 2),
        "share_of_bare_throughput": round(max(crowds["uploads_per_s"].values()) / alone, 2),
    }  # fmt: skip


def _crowds(
    product: Product, upload: Callable[[bytes], None], files: Sequence[bytes], seconds: float
) -> dict[str, dict[str, Any]]:
    """Uploads a second by number of clients; with CROWD of them also core time by process, and with more workers."""
    rates: dict[str, float] = {}
    workers: dict[str, dict[str, float]] = {}
    core_ms: dict[str, float] = {}
    for clients in CLIENTS:
        before = _core_seconds(product)
        got = throughput(partial(upload, files[clients % len(files)]), clients, seconds)
        rates[str(clients)] = round(got.per_s, 2)
        if clients == CROWD:
            spent = {name: after - before.get(name, 0.0) for name, after in _core_seconds(product).items()}
            core_ms = {name: ms(value / got.sent) for name, value in spent.items() if value / got.sent > 0.0005}
            workers["1 preprocessor, 1 stacker"] = _told(got)
    with ExitStack() as more:
        for name, words in (("preprocessor", "2 preprocessors, 1 stacker"), ("stacker", "2 of both")):
            more.enter_context(_another(product, name))
            workers[words] = _told(throughput(partial(upload, files[0]), CROWD, seconds))
    return {
        "uploads_per_s": rates,
        "core_ms_per_upload": dict(sorted(core_ms.items(), key=lambda item: -item[1])),
        f"with_{CROWD}_clients": workers,
    }


def _told(got: Load) -> dict[str, float]:
    return {"per_s": round(got.per_s, 2), "p50_ms": ms(got.p50_s), "p95_ms": ms(got.p95_s)}


def _core_seconds(product: Product) -> dict[str, float]:
    """Processor time by process, that of children which have ended included."""

    def spent(process: psutil.Process) -> float:
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)

    return by_process(product, spent)


@contextmanager
def _another(product: Product, name: str) -> Iterator[None]:
    """One more worker of a stage, with the settings of the one that runs."""
    first = psutil.Process(product.pid_of(name))
    words = {
        "preprocessor": (
            "celery", "--quiet", "-A", "services.preprocessor.worker", "worker", "--queues", "preprocess",
            "--concurrency", "1", "--hostname", "preprocessor2@%h", "--without-gossip", "--without-mingle",
            "--without-heartbeat",
        ),
        "stacker": ("services.stacker",),
    }[name]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        env=first.environ(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(JOINS_WITHIN_S)
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
