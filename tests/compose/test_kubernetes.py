"""The rendered overlay `minimal`, run: every workload as a Pod of Podman's, on the same images as the compose file."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lesionlens.supervisor.sample import drawing
from services.analysis.results import NETWORKS

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180.0
#: What each image of the manifests is called in the engine that built it.
BUILT = {
    "lesionlens/gateway": "lesionlens/gateway:latest",
    "lesionlens/preprocessor": "lesionlens/preprocessor:latest",
    "lesionlens/stacker": "lesionlens/stacker:latest",
    "lesionlens/serving": "lesionlens/serving:latest",
}


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    """What `kubectl apply -k k8s/overlays/minimal` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl 1.28 or newer renders the manifests here")
    folder = str(ROOT / "k8s/overlays/minimal")
    done = subprocess.run(["kubectl", "kustomize", folder], text=True, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"kubectl cannot render the manifests: {done.stderr[-300:]}")
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def podman(beside: Callable[[str], Any]) -> Iterator[Any]:
    pods = beside("pods")
    if reason := pods.Podman.why_not():
        pytest.skip(f"Podman cannot run here: {reason}")
    podman = pods.Podman()
    try:
        podman.start()
    except RuntimeError as error:
        podman.stop()
        pytest.skip(f"Podman cannot run here: {error}")
    yield podman
    podman.stop()


class Cluster:
    """The overlay as Pods."""

    def __init__(self, podman: Any, workloads: dict[str, Any], configs: list[dict[str, Any]]) -> None:
        self.podman, self.workloads, self.configs = podman, workloads, configs

    def play(self, *names: str) -> None:
        for name in names:
            self.podman.play(self.workloads[name], self.configs)

    def until_ready(self, *names: str) -> None:
        end = time.monotonic() + PATIENCE_S
        for name in names:
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                while not self.podman.passes(self.workloads[name], kind):
                    assert time.monotonic() < end, f"{name}: {kind} fails\n{self.log(name)}"
                    time.sleep(0.3)

    def run_to_its_end(self, name: str, *, retries: int = 0) -> None:
        """A Job: tried again as often as its backoff allows, because what it needs may not be there yet."""
        for left in range(retries, -1, -1):
            self.play(name)
            status = self.podman("wait", self.podman.container(self.workloads[name]))
            if status == "0":
                return
            assert left, f"{name} ended with {status}\n{self.log(name)}"
            self.podman("pod", "rm", "--force", name)

    def log(self, name: str) -> str:
        said = self.podman.ask("logs", "--tail", "30", self.podman.container(self.workloads[name]))
        return f"{said.stdout}{said.stderr}"


@pytest.fixture(scope="module")
def cluster(
    images: Any,
    podman: Any,
    manifests: list[dict[str, Any]],
    checkout: Path,
    beside: Callable[[str], Any],
    note: Callable[[str, float], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Cluster:
    secrets = tmp_path_factory.mktemp("pods") / "secrets"
    shutil.copytree(checkout / "secrets", secrets)
    for file in secrets.iterdir():
        file.chmod(0o644)
    workloads = beside("pods").workloads(manifests, secrets)
    began = time.monotonic()
    asked = sorted({workload.pod["spec"]["containers"][0]["image"] for workload in workloads.values()})
    for image in asked:
        if built := BUILT.get(image.partition(":")[0]):
            images.docker("tag", built, image)
    podman.load(images.save(*asked))
    note("images from Docker to Podman", began)
    try:
        podman.try_out(asked[0])
    except RuntimeError as error:
        pytest.skip(f"Podman cannot run here: {error}")
    began = time.monotonic()
    configs = [document for document in manifests if document["kind"] == "ConfigMap"]
    cluster = Cluster(podman, workloads, configs)
    stores = ("postgres", "redis")
    cluster.play(*stores)
    cluster.until_ready(*stores)
    cluster.run_to_its_end("migrate", retries=3)
    jobs = {document["metadata"]["name"] for document in manifests if document["kind"] in {"Job", "CronJob"}}
    rest = [name for name in workloads if name not in jobs and name not in stores]
    cluster.play(*rest)
    cluster.until_ready(*rest)
    note("podman kube play of the overlay `minimal`, until all its probes pass", began)
    return cluster


def test_an_upload_is_answered_by_the_pods_of_the_manifests(
    cluster: Cluster, beside: Callable[[str], Any], note: Callable[[str, float], None]
) -> None:
    gateway = cluster.workloads["gateway"]
    address = f"http://{cluster.podman.address(gateway)}:{gateway.ports['http']}"
    visitor = beside("visitor").Visitor(address, PATIENCE_S)
    began = time.monotonic()

    answer = visitor.end_of(visitor.upload(drawing()))

    assert answer["state"] == "done", answer
    assert [network["name"] for network in answer["result"]["networks"]] == list(NETWORKS)
    note("one upload to its answer, in Pods", began)


def test_a_pod_is_as_restricted_as_its_manifest_says(cluster: Cluster) -> None:
    for name, user in (("gateway", "10001"), ("stacker", "10001"), ("postgres", "999")):
        container = cluster.podman.container(cluster.workloads[name])
        assert cluster.podman("exec", container, "id", "-u") == user
        refused = cluster.podman.ask("exec", container, "touch", "/etc/x")
        assert "Read-only file system" in refused.stderr
        capabilities = cluster.podman("exec", container, "grep", "CapEff", "/proc/1/status")
        assert int(capabilities.split()[1], 16) == 0


@pytest.mark.parametrize("name", ["backup", "retention"])
def test_a_nightly_job_runs_to_its_end(cluster: Cluster, name: str) -> None:
    cluster.run_to_its_end(name)

    if name == "backup":
        folder = cluster.podman("volume", "inspect", "backups", "--format", "{{.Mountpoint}}")
        (dump,) = Path(folder).iterdir()
        assert dump.suffix == ".dump"
        assert dump.read_bytes().startswith(b"PGDMP")
