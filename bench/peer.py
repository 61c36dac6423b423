"""One Predict call to the embedded model server, and its throughput next to LitServe's with the same networks."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests

from bench.contestants.process import ROOT
from bench.load import in_stretches, throughput
from bench.machine import Machine
from bench.measuring import in_turns, ms, timed
from serving.answers import NETWORKS, NetworkAnswer
from serving.client import RemoteEnsemble
from serving.embedded.precision import Precision, choose
from serving.model_config import ModelConfig, write_config
from tests.conftest import free_port

READY_WITHIN_S = 120.0
CLIENTS = (1, 4, 8)
#: Seconds of one stretch of one number of clients.
SECONDS = 3.0
ROUNDS = 15
#: Seconds of requests that do not count; meanwhile the embedded server finds that pairs are worth preparing for.
WARM_S = 8.0
#: Seconds that it may take for that.
PREPARES_WITHIN_S = 10.0


def measure(machine: Machine) -> Mapping[str, Any]:
    """Milliseconds of one call, answers a second by number of clients, memory of both servers."""
    precision = choose(Precision.AUTO, machine.calibrated, machine.models)
    tensor = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    body = {"image": base64.b64encode(tensor.tobytes()).decode()}
    with ExitStack() as running:
        port, peer_port = free_port(), free_port()
        configs = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="ll-bench-")))
        ours = running.enter_context(
            _running([sys.executable, "-m", "serving.embedded", *served(machine, precision, port, configs)])
        )
        peer_file = str(Path(__file__).with_name("contestants") / "litserve_peer.py")
        told = [str(machine.models), json.dumps(dict(machine.versions)), str(peer_port)]
        peer = running.enter_context(_running([str(machine.contestants), peer_file, *told]))
        networks = running.enter_context(RemoteEnsemble(dict.fromkeys(NETWORKS, f"127.0.0.1:{port}")))
        one = running.enter_context(RemoteEnsemble({"mobilenet": f"127.0.0.1:{port}"}))
        _until(lambda: all(networks.readiness(1.0).values()))
        _until(lambda: requests.get(f"http://127.0.0.1:{peer_port}/health", timeout=1).status_code == 200)
        local = threading.local()

        def ask_peer() -> None:
            if not hasattr(local, "session"):
                local.session = requests.Session()
            local.session.post(f"http://127.0.0.1:{peer_port}/predict", json=body, timeout=60).raise_for_status()

        def ask(ensemble: RemoteEnsemble) -> None:
            assert all(isinstance(answer, NetworkAnswer) for answer in ensemble.ask_all(tensor, 60.0))

        for send in (lambda: ask(networks), ask_peer):
            throughput(send, max(CLIENTS), WARM_S if not machine.quick else 1.0)
        time.sleep(PREPARES_WITHIN_S)
        turns = {
            "mobilenet, gRPC": timed(lambda: ask(one)),
            "ensemble, gRPC": timed(lambda: ask(networks)),
            "ensemble, LitServe with TensorFlow": timed(ask_peer),
        }
        taken = in_turns(turns, machine.rounds(ROUNDS))
        senders = {"embedded": lambda: ask(networks), "litserve": ask_peer}
        rates = answers_per_s(senders, SECONDS if not machine.quick else 0.5)
        memory = {"embedded": _memory(ours), "litserve": _memory(peer)}
    best = {name: max(rate[name] for rate in rates.values()) for name in ("embedded", "litserve")}
    return {
        "precision": str(precision),
        "call_ms": {name: ms(value) for name, value in taken.items()},
        "answers_per_s": rates,
        "times_litserve": round(best["embedded"] / best["litserve"], 2),
        "memory_mb": memory,
    }


def answers_per_s(senders: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, dict[str, float]]:
    """Answers a second by number of clients and server. The servers and numbers of clients take turns."""
    got = in_stretches(
        {
            (server, clients): partial(throughput, send, clients, seconds)
            for clients in CLIENTS
            for server, send in senders.items()
        }
    )
    return {str(clients): {name: round(got[name, clients].per_s, 1) for name in senders} for clients in CLIENTS}


def served(machine: Machine, precision: Precision, port: int, configs: Path) -> list[str]:
    """What the embedded model server is told: to serve, at one port, the versions that the stack names, and how."""
    for name, version in machine.versions.items():
        write_config(configs, ModelConfig(name, str(machine.models / name), (version,), {}))
    calibrated = ["--calibrated", str(machine.calibrated)] if machine.calibrated else []
    endpoint = f"{','.join(machine.versions)}={port}"
    told = ["--endpoint", endpoint, "--models", str(machine.models), "--config", str(configs)]
    return [*told, "--precision", str(precision), *calibrated]


def _until(condition: Any) -> None:
    end = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            if condition():
                return
        except (requests.RequestException, OSError):
            pass
        if time.monotonic() > end:
            raise TimeoutError("a server did not get ready")
        time.sleep(0.2)


class _running:  # noqa: N801 - read as a verb: `with _running(command)`
    """A command and all it starts, for the length of a block."""

    def __init__(self, command: list[str]) -> None:
        self._command = command

    def __enter__(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            self._command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return self._process

    def __exit__(self, *_: object) -> None:
        family = [*psutil.Process(self._process.pid).children(recursive=True), psutil.Process(self._process.pid)]
        for process in family:
            process.kill()
        self._process.wait()


def _memory(process: subprocess.Popen[bytes]) -> int:
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    return round(sum(member.memory_full_info().pss for member in family) / 1e6)
