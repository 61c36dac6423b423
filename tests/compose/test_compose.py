"""docker-compose.yml as it stands, on images built by the Dockerfiles as they stand."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from lesionlens.supervisor.sample import drawing
from services.analysis.results import NETWORKS

OWN_IMAGES = ("gateway", "preprocessor", "stacker")
#: Each image and what it stands on.
IMAGES = {
    **dict.fromkeys((*OWN_IMAGES, "serving-embedded"), "python:3.11-slim"),
    "serving": "tensorflow/serving:2.19.1",
}
SERVINGS = tuple(f"serving-{network}" for network in NETWORKS)
ROOT = Path(__file__).resolve().parents[2]
_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
LASTING = ("gateway", "preprocessor", "stacker", "beat", "webhooks", "redis", "postgres", *SERVINGS)


@pytest.fixture
def stack(running) -> Iterator[Any]:
    """The running project, which each test leaves as it was found.

    Tests run in random order: the next one may look at what this one killed, paused or scaled. And what never gets well
    again is the failure of the test that brought it down.
    """
    yield running
    running.until_well(LASTING)


def test_an_upload_is_answered_by_four_networks(stack) -> None:
    began = time.monotonic()

    answer = stack.end_of(stack.upload(drawing()))

    assert answer["state"] == "done", answer
    assert 0 <= answer["result"]["probability"] <= 1
    assert [network["name"] for network in answer["result"]["networks"]] == list(NETWORKS)
    stack.note("one upload to its answer", began)


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
    # Nobody was killed here, so every line since the start is what it should be.
    since_ever = datetime.fromtimestamp(0, UTC)
    said = {name: _said(embedded_stack, name, since_ever) for name in (*OWN_IMAGES, "beat", "webhooks", "migrate")}
    assert all(said[service] for service in OWN_IMAGES)
    measured = "import urllib.request as u; print(u.urlopen('http://serving:9100/monitoring/prometheus/metrics').read().decode())"
    assert "lesionlens_serving_requests" in embedded_stack.run_in("gateway", "python", "-c", measured)


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
    address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    # By address, too: a name that is not known there would say nothing about the way.
    data = {name: stack.inspect(stack.containers(name)[0], address) for name in ("redis", "postgres")}
    seen = "serving-densenet121/8500"
    hosts = [seen, "redis/6379", f"{data['redis']}/6379", "postgres/5432", f"{data['postgres']}/5432", "192.0.2.1/80"]
    look = f"for host in {' '.join(hosts)}; do {reach}; done; true"

    assert all(data.values())
    assert stack.run_in("serving-mobilenet", "bash", "-c", look).split() == [seen]


@pytest.mark.parametrize("image", [*OWN_IMAGES, "serving-embedded"])
def test_an_image_holds_no_tensorflow_and_no_build_tool(stack, image: str) -> None:
    look = (
        "import importlib.util as u, shutil;"
        "names = ['tensorflow', 'keras', 'openvino', 'setuptools', 'pip', 'pytest'];"
        "print([n for n in names if u.find_spec(n)], [t for t in ('gcc', 'cc', 'make', 'git') if shutil.which(t)])"
    )

    found = stack.docker("run", "--rm", "--network", "none", f"lesionlens/{image}", "python", "-c", look)

    assert found == ("['openvino'] []" if image == "serving-embedded" else "[] []")


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_somebody_without_a_name_and_knows_when_it_is_well(stack, image: str) -> None:
    config = json.loads(stack.docker("image", "inspect", "--format", "{{json .Config}}", f"lesionlens/{image}"))

    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][0] == "CMD"


@pytest.mark.parametrize(("image", "base"), IMAGES.items())
def test_an_image_is_as_large_as_the_readme_says(stack, image: str, base: str) -> None:
    added = (_size(stack, f"lesionlens/{image}") - _size(stack, base)) / 1e6
    stack.note_text(f"lesionlens/{image} beyond its base: {added:.0f} MB")

    row = re.search(rf"^\| `lesionlens/{image}`.* \| (\d+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)

    assert row is not None
    assert added == pytest.approx(int(row[1]), rel=0.15)


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
    stack.until_well([service])
    stack.note(f"{service} killed, until Docker calls it healthy again", began)


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
        # Without `--wait`, which gives up at once: Docker calls a container that was paused unhealthy until its next
        # check, and the fixture waits for that.
        stack.compose("up", "--detach", "--no-recreate", "--scale", "preprocessor=1", "preprocessor")


def test_a_replica_that_is_added_to_a_network_is_asked(stack) -> None:
    """Each caller keeps one connection, so it hears of a second server only when it has to dial anew."""
    scaled = ("up", "--detach", "--no-recreate", "--scale")
    (first,) = stack.containers("serving-mobilenet")
    # A channel is made at the first call, so every process of the stacker has to have called by now.
    with ThreadPoolExecutor(6) as visitors:
        list(visitors.map(stack.end_of, visitors.map(stack.upload, [drawing()] * 18)))
    began = time.monotonic()
    try:
        stack.compose(*scaled, "serving-mobilenet=2", "serving-mobilenet")
        stack.until_well(["serving-mobilenet"])
        (second,) = set(stack.containers("serving-mobilenet")) - {first}
        end = time.monotonic() + 180
        while not _predictions(stack, second):
            assert time.monotonic() < end, "the second server is not asked"
            assert stack.end_of(stack.upload(drawing()))["state"] == "done"
        stack.note("a second server of a network started, until it was asked", began)
    finally:
        stack.compose(*scaled, "serving-mobilenet=1", "serving-mobilenet")


def test_a_log_is_lines_of_json_that_name_the_trace_and_nobody(stack) -> None:
    # What was killed by another test may have said its last words in the middle of a line.
    began = datetime.now(UTC)
    files = {"image": ("arm-of-jane-doe.png", drawing(), "image/png"), "force": (None, "true")}
    answer = requests.post(f"{stack.address}/v1/analyses", files=files, timeout=60)
    assert answer.status_code == 202, answer.text
    analysis_id = answer.json()["id"]
    assert stack.end_of(f"{stack.address}/v1/analyses/{analysis_id}")["state"] == "done"
    visitor = stack.inspect(stack.containers("gateway")[0], "{{range .NetworkSettings.Networks}}{{.Gateway}} {{end}}")

    # A worker commits first and says so then.
    for service in OWN_IMAGES:
        _until(
            lambda service=service: (
                answer.headers["X-Trace-Id"] in {x.get("trace_id") for x in _said(stack, service, began)}
            ),
            f"the log of {service} names the trace",
        )
    said = "".join(stack.compose("logs", "--no-log-prefix", service) for service in LASTING)
    assert not [word for word in ("jane-doe", analysis_id, *visitor.split()) if word in said]


def test_the_password_of_the_database_is_changed_as_the_documentation_says(stack) -> None:
    manual = (ROOT / "docs/deploy.md").read_text()
    (block,) = re.findall(r"The database's password, in this order:\n\n```sh\n(.*?)```", manual, re.DOTALL)
    before = (stack.folder / "secrets/database_url").read_text()
    analysis = stack.upload(drawing())

    stack.engine.shell(stack.folder, block)
    stack.wait_until_ready()

    assert (stack.folder / "secrets/database_url").read_text() != before
    assert stack.end_of(analysis)["state"] == "done"
    assert stack.end_of(stack.upload(drawing()))["state"] == "done"
    ask = ("python", "-m", "services.analysis.alive", "gunicorn", "--database")
    stack.run_in("gateway", *ask)
    with pytest.raises(RuntimeError, match="password authentication failed"):
        stack.run_in("gateway", "env", f"DATABASE_URL={before.strip()}", *ask)


def test_a_stored_photograph_is_encrypted_with_the_key_of_the_file(stack) -> None:
    analysis_id = stack.upload(drawing()).rpartition("/")[2]

    (stored,) = stack.run_in("gateway", "find", "/var/lib/lesionlens/uploads", "-name", f"{analysis_id}*").split()

    assert stack.run_in("gateway", "head", "--bytes", "12", stored) == "LLS1\x072026-11"


def test_an_unwell_worker_is_seen(stack) -> None:
    (container,) = stack.containers("beat")[:1]
    check = ("docker", "exec", container, "python", "-m", "services.analysis.alive")

    with pytest.raises(RuntimeError, match="no process with 'worker'"):
        stack.docker(*check[1:], "worker")
    with pytest.raises(RuntimeError, match="has no child process"):
        stack.docker(*check[1:], "beat", "--children")


def _size(stack, image: str) -> int:
    return int(stack.docker("image", "inspect", "--format", "{{.Size}}", image))


def _predictions(stack, container: str) -> float:
    """How many images a network's server was asked about."""
    address = "http://127.0.0.1:8501/monitoring/prometheus/metrics"
    ask = f"import urllib.request as u; print(u.urlopen('{address}').read().decode())"
    told = stack.docker("exec", container, "python", "-c", ask)
    counted = re.findall(r'^lesionlens_serving_requests_total{.*method="predict".*} (\S+)$', told, re.MULTILINE)
    return sum(float(number) for number in counted)


def _said(stack, service: str, since: datetime) -> list[dict[str, Any]]:
    """The log of a service, each line of which has to be JSON."""
    lines = stack.compose("logs", "--no-log-prefix", "--since", since.isoformat(), service)
    return [json.loads(line) for line in lines.splitlines() if line]


def _until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, f"not within a minute: {what}"
        time.sleep(0.1)
