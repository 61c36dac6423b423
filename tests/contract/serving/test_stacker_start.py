"""`python -m services.stacker`: the look at the served networks before the worker starts."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving import wire
from serving.answers import NETWORKS

ROOT = Path(__file__).parents[3]
MODELS = ROOT / "serving" / "models"
PATIENCE_S = 60.0
AVAILABLE = 30


def serves(version: int):
    def reply(_request, _context):
        response = wire.GetModelStatusResponse()
        response.model_version_status.add(version=version, state=AVAILABLE)
        return response

    return reply


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the stacker against one address for all four networks."""
    processes: list[subprocess.Popen[str]] = []

    def start(address: str, models: Path = MODELS) -> subprocess.Popen[str]:
        addresses = {f"{name.upper()}_SERVING_URL": address for name in NETWORKS}
        command = [sys.executable, "-m", "services.stacker"]
        environment = {**os.environ, **addresses, "LOG_FORMAT": "json", "MODELS_DIR": str(models)}
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_version_that_the_stack_was_not_fitted_for_is_refused(started, fake):
    stacker = started(fake(status=serves(99)))

    _, said = stacker.communicate(timeout=PATIENCE_S)

    assert stacker.returncode == 1
    (refusal,) = [json.loads(line) for line in said.splitlines()]
    assert refusal["event"] == "refusing to start"
    assert "served is [99]" in refusal["why"]


def test_a_network_that_changed_under_the_same_version_is_refused(started, fake, tmp_path):
    shutil.copy(MODELS / "stack.json", tmp_path)
    (tmp_path / "densenet121" / "1").mkdir(parents=True)
    (tmp_path / "densenet121" / "1" / "saved_model.pb").write_bytes(b"trained anew")
    stacker = started(fake(status=serves(1)), tmp_path)

    _, said = stacker.communicate(timeout=PATIENCE_S)

    assert stacker.returncode == 1
    (refusal,) = [json.loads(line) for line in said.splitlines()]
    assert f"another file than {tmp_path}/densenet121/1/saved_model.pb" in refusal["why"]
    assert "exported together" in refusal["advice"]


def test_what_becomes_the_worker_has_no_thread_of_the_look_and_takes_it_along_when_it_dies(started):
    """A thread started during `execv` fails, and gRPC says so in a line of the log that no machine can read."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nowhere = f"127.0.0.1:{probe.getsockname()[1]}"
    stacker = started(nowhere)
    until(lambda: children(stacker.pid))
    (look,) = children(stacker.pid)
    until(lambda: len(list(Path(f"/proc/{look}/task").iterdir())) > 1)

    assert len(list(Path(f"/proc/{stacker.pid}/task").iterdir())) == 1
    stacker.kill()
    stacker.wait(PATIENCE_S)
    until(lambda: not Path(f"/proc/{look}").exists())
