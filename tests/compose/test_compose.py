"""docker-compose.yml as it stands, on images built by the Dockerfiles as they stand."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lesionlens.supervisor.sample import drawing
from services.analysis.results import NETWORKS

OWN_IMAGES = ("gateway", "preprocessor", "stacker")
SERVINGS = tuple(f"serving-{network}" for network in NETWORKS)
ROOT = Path(__file__).resolve().parents[2]
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
LASTING = ("gateway", "preprocessor", "stacker", "beat", "webhooks", "redis", "postgres", *SERVINGS)


def test_an_upload_is_answered_by_four_networks(stack) -> None:
    began = time.monotonic()

    answer = stack.end_of(stack.upload(drawing()))

    assert answer["state"] == "done", answer
    assert 0 <= answer["result"]["probability"] <= 1
    assert [network["name"] for network in answer["result"]["networks"]] == list(NETWORKS)
    stack.note("one upload to its answer", began)
    for image, base in (("serving-embedded", "python:3.11-slim"), ("serving", "tensorflow/serving:2.19.1")):
        added = _size(stack, f"lesionlens/{image}") - _size(stack, base)
        stack.note_text(f"lesionlens/{image} beyond its base: {added / 1e6:.0f} MB")


def test_what_runs_fits_into_the_memory_that_the_documentation_asks_for(stack) -> None:
    stack.end_of(stack.upload(drawing()))
    containers = [container for service in LASTING for container in stack.containers(service)]
    used = [
        float(number) * _UNITS[unit]
        for number, unit in re.findall(
            r"^([\d.]+)(\w+) /",
            stack.docker("stats", "--no-stream", "--format", "{{.MemUsage}}", *containers),
            re.MULTILINE,
        )
    ]

    assert len(used) == len(containers)
    asked = re.search(r"(\d+) GB of memory", (ROOT / "docs/deploy.md").read_text())
    assert asked is not None
    assert sum(used) < int(asked[1]) * 1e9
    stack.note_text(f"memory of all containers: {sum(used) / 1e6:.0f} MB")


def test_the_embedded_model_server_takes_the_place_of_the_four(embedded_stack) -> None:
    services = embedded_stack.compose("ps", "--services").split()

    assert "serving" in services
    assert not set(SERVINGS) & set(services)
    answer = embedded_stack.end_of(embedded_stack.upload(drawing()))
    assert answer["state"] == "done", answer
    assert [network["name"] for network in answer["result"]["networks"]] == list(NETWORKS)
    # The photograph lies in the bucket of the profile `s3`, which came with it, and nowhere else.
    kept = (
        "from services.analysis.blobs import BlobStore, S3Access; from services.analysis.settings import load_settings;"
        "s = load_settings(); b = BlobStore(s.blob_store_url, s3=S3Access.of(s));"
        "print(*(blob.key for chunk in b.listed() for blob in chunk))"
    )
    assert f"uploads/{answer['id']}" in embedded_stack.run_in("gateway", "python", "-c", kept).split()
    assert embedded_stack.run_in("gateway", "ls", "/var/lib/lesionlens") == ""


@pytest.mark.parametrize("service", LASTING)
def test_a_container_is_hardened(stack, service: str) -> None:
    (container,) = stack.containers(service)[:1]
    host = json.loads(stack.inspect(container, "{{json .HostConfig}}"))

    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Init"]
    assert host["Memory"] > 0
    assert stack.run_in(service, "sh", "-c", "id -u") != "0"
    assert stack.run_in(service, "sh", "-c", "touch /etc/x 2>&1 || true").endswith("Read-only file system")
    assert stack.inspect(container, "{{.State.Health.Status}}") == "healthy"


def test_only_the_gateway_can_be_reached_from_outside(stack) -> None:
    published = {
        service: json.loads(stack.inspect(stack.containers(service)[0], "{{json .NetworkSettings.Ports}}"))
        for service in LASTING
    }

    assert [service for service, ports in published.items() if any(ports.values())] == ["gateway"]


def test_a_network_sees_neither_data_nor_the_internet(stack) -> None:
    reach = 'timeout 3 bash -c ": </dev/tcp/$host" 2>/dev/null && echo $host'
    look = f"for host in redis/6379 postgres/5432 192.0.2.1/80; do {reach}; done; true"

    assert stack.run_in("serving-mobilenet", "bash", "-c", look) == ""


@pytest.mark.parametrize("image", OWN_IMAGES)
def test_an_image_holds_no_tensorflow_and_no_build_tool(stack, image: str) -> None:
    look = (
        "import importlib.util as u, shutil; names = ['tensorflow', 'keras', 'openvino', 'setuptools', 'pytest'];"
        "print([n for n in names if u.find_spec(n)], [t for t in ('gcc', 'cc', 'make', 'git') if shutil.which(t)])"
    )

    found = stack.docker("run", "--rm", "--network", "none", f"lesionlens/{image}", "python", "-c", look)

    assert found == "[] []"
    stack.note_text(
        f"lesionlens/{image} beyond its base: "
        f"{(_size(stack, f'lesionlens/{image}') - _size(stack, 'python:3.11-slim')) / 1e6:.0f} MB"
    )


def test_no_secret_stands_in_an_environment_or_a_command_line(stack, checkout) -> None:
    # The id of the S3 key is a name.
    files = [file for file in (checkout / "secrets").iterdir() if file.name != "s3_access_key_id"]
    secrets = [file.read_text().split()[-1] for file in files]
    shown = "".join(stack.docker("inspect", *stack.containers(service)) for service in LASTING)
    shown += "".join(stack.docker("top", stack.containers(service)[0]) for service in LASTING)

    assert secrets
    assert not [secret for secret in secrets if secret in shown]


@pytest.mark.parametrize("service", ["gateway", "preprocessor", "stacker", "serving-densenet121", "redis", "postgres"])
def test_a_killed_process_comes_back_and_loses_nothing(stack, service: str) -> None:
    before = stack.upload(drawing())
    (container,) = stack.containers(service)[:1]
    starts = int(stack.inspect(container, "{{.RestartCount}}"))

    os.kill(int(stack.inspect(container, "{{.State.Pid}}")), signal.SIGKILL)
    began = time.monotonic()
    _until(lambda: int(stack.inspect(container, "{{.RestartCount}}")) > starts, "the container is started again")
    stack.wait_until_ready()

    assert stack.end_of(before)["state"] == "done"
    assert stack.end_of(stack.upload(drawing()))["state"] == "done"
    stack.note(f"{service} killed, until an upload from before and one from after were answered", began)


def test_a_worker_can_be_scaled(stack) -> None:
    stack.compose("up", "--detach", "--wait", "--no-recreate", "--scale", "preprocessor=2", "preprocessor")

    try:
        containers = stack.containers("preprocessor")
        assert len(containers) == 2
        assert {stack.inspect(container, "{{.State.Health.Status}}") for container in containers} == {"healthy"}
        # Each of the two is the only one for a while, so each is seen to work.
        for idle in containers:
            stack.docker("pause", idle)
            try:
                assert stack.end_of(stack.upload(drawing()))["state"] == "done"
            finally:
                stack.docker("unpause", idle)
    finally:
        # Without `--wait`: Docker calls a container that was paused unhealthy until its next check.
        stack.compose("up", "--detach", "--no-recreate", "--scale", "preprocessor=1", "preprocessor")


def test_an_unwell_worker_is_seen(stack) -> None:
    (container,) = stack.containers("beat")[:1]
    check = ("docker", "exec", container, "python", "-m", "services.analysis.alive")

    with pytest.raises(RuntimeError, match="no process with 'worker'"):
        stack.docker(*check[1:], "worker")
    with pytest.raises(RuntimeError, match="has no child process"):
        stack.docker(*check[1:], "beat", "--children")


def _size(stack, image: str) -> int:
    return int(stack.docker("image", "inspect", "--format", "{{.Size}}", image))


def _until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, f"not within a minute: {what}"
        time.sleep(0.1)
