"""The whole way, from the upload to the answer, next to the bare work on the same cores."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests
from numpy.typing import NDArray

from bench.bare import SharedEnsemble
from bench.footprint import by_process
from bench.imaging import photograph
from bench.load import STRETCHES, Load, in_stretches, throughput
from bench.machine import Machine
from bench.measuring import ms, quantile
from services.analysis.results import Result
from services.preprocessor.imaging import PreparedLesion, prepare_lesion
from services.stacker.look import look
from services.stacker.stacking import load_stack
from serving.embedded.precision import Precision, choose
from tests.conftest import free_port
from tests.e2e.product import ROOT, Product, running

UPLOADS = 40
CLIENTS = (1, 2, 4, 8, 16, 32)
#: Clients of the bare engine, which one of them does not keep busy: what is between its calls is one thread's work.
BARE_CLIENTS = (1, 2, 4)
#: Seconds of one stretch of one number of clients.
SECONDS = 3.0
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
        SharedEnsemble(machine.models, stack.versions, precision, machine.calibrated, max(BARE_CLIENTS)) as networks,
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

        def ask(tensor: NDArray[np.uint8]) -> None:
            assert isinstance(look(tensor, networks, stack, None, 60.0, force=True), Result)

        def bare(file: bytes) -> tuple[float, float]:
            begin = time.perf_counter()
            tensor = _prepared(file)
            middle = time.perf_counter()
            ask(tensor)
            return middle - begin, time.perf_counter() - middle

        for file in files[:3]:
            bare(file)
        # With several clients networks that look once see pairs, too.
        tensor = _prepared(files[0])
        networks.ask_all(np.stack([tensor, tensor]), 60.0)
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
        crowds = _crowds(product, upload, partial(ask, tensor), files, SECONDS if not machine.quick else 1.0)
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
    }  # fmt: skip


def _prepared(file: bytes) -> NDArray[np.uint8]:
    lesion = prepare_lesion(file, force=True)
    assert isinstance(lesion, PreparedLesion)
    return lesion.tensor


def _crowds(
    product: Product,
    upload: Callable[[bytes], None],
    ask: Callable[[], None],
    files: Sequence[bytes],
    seconds: float,
) -> dict[str, Any]:
    """Uploads a second by number of clients, and in turns with them what the bare engine answers to several.

    With CROWD of them also core time by process, and uploads a second with more workers.
    """
    spent: defaultdict[str, float] = defaultdict(float)

    def uploads(clients: int) -> Load:
        before = _core_seconds(product)
        got = throughput(partial(upload, files[clients % len(files)]), clients, seconds)
        if clients == CROWD:
            for name, after in _core_seconds(product).items():
                spent[name] += after - before.get(name, 0.0)
        return got

    got = in_stretches(
        {("uploads", clients): partial(uploads, clients) for clients in CLIENTS}
        | {("bare", clients): partial(throughput, ask, clients, seconds) for clients in BARE_CLIENTS}
    )
    rates = {clients: got["uploads", clients].per_s for clients in CLIENTS}
    bare = {clients: got["bare", clients].per_s for clients in BARE_CLIENTS}
    crowd = got["uploads", CROWD]
    core_ms = {name: ms(value / crowd.sent) for name, value in spent.items() if value / crowd.sent > 0.0005}
    workers = {"1 preprocessor, 1 stacker": _told(crowd)}
    with ExitStack() as more:
        for name, words in (("preprocessor", "2 preprocessors, 1 stacker"), ("stacker", "2 of both")):
            more.enter_context(_another(product, name))
            workers[words] = _told(throughput(partial(upload, files[0]), CROWD, seconds * STRETCHES))
    return {
        "uploads_per_s": {str(clients): round(rate, 2) for clients, rate in rates.items()},
        "core_ms_per_upload": dict(sorted(core_ms.items(), key=lambda item: -item[1])),
        f"with_{CROWD}_clients": workers,
        "bare_ensembles_per_s": {str(clients): round(rate, 2) for clients, rate in bare.items()},
        "share_of_bare_throughput": round(max(rates.values()) / max(bare.values()), 2),
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
