"""Rendered manifests as Pods that `podman kube play` takes, and who looks after them as a kubelet would.

Podman knows Pods, not what makes them; so each workload becomes one Pod, named after its Service as others look it up.
Its probes are taken out and asked from here. Secrets are folders of this machine, claims are volumes of Podman's. Left
out is what only a cluster can show: several replicas, autoscaling, the Ingress, and network policies.
"""

from __future__ import annotations

import copy
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import requests
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

Document = dict[str, Any]

#: Debian's packages. Without its own name service Podman's Pods do not find one another.
NEEDED = {"podman": "podman", "runc": "runc", "conmon": "conmon", "catatonit": "catatonit"}
_HELPERS = {"netavark": "netavark", "aardvark-dns": "aardvark-dns"}
_HELPER_FOLDERS = ("/usr/lib/podman", "/usr/libexec/podman", "/usr/local/lib/podman")
#: Podman's own limits are above those of a container that it runs in itself, and may not be raised there.
_CONFIGURATION = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
[network]
network_backend = "netavark"
"""
_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


@dataclass(frozen=True)
class Workload:
    """What becomes a Pod."""

    name: str
    pod: Document
    probes: Mapping[str, Document]
    ports: Mapping[object, int]


def workloads(documents: Sequence[Document], secrets: Path) -> dict[str, Workload]:
    """Every workload of `documents` by name; `secrets` holds the files of the Secret made by hand."""
    services = [document for document in documents if document["kind"] == "Service"]
    found = {}
    for document in documents:
        if document["kind"] in {"Deployment", "StatefulSet", "Job", "CronJob"}:
            workload = _workload(document, services, secrets)
            found[workload.name] = workload
    return found


def _workload(document: Document, services: Sequence[Document], secrets: Path) -> Workload:
    spec = document["spec"]["jobTemplate"]["spec"] if document["kind"] == "CronJob" else document["spec"]
    template = copy.deepcopy(spec["template"])
    labels, pod = template["metadata"]["labels"], template["spec"]
    name = document["metadata"]["name"]
    named = [s["metadata"]["name"] for s in services if s["spec"]["selector"].items() <= labels.items()]
    assert named in ([], [name]), f"{name} is looked up as {named}"
    (container,) = pod["containers"]
    # Taken out: in a cluster they publish nothing, and Podman would publish them on this machine.
    ports = {
        key: port["containerPort"]
        for port in container.pop("ports", [])
        for key in (port["name"], port["containerPort"])
    }
    probes = {kind: container.pop(kind) for kind in _PROBES if kind in container}
    container.pop("lifecycle", None)
    for claim in document["spec"].get("volumeClaimTemplates", []):
        volume = claim["metadata"]["name"]
        pod.setdefault("volumes", []).append(
            {"name": volume, "persistentVolumeClaim": {"claimName": f"{volume}-{name}-0"}}
        )
    for volume in pod.get("volumes", []):
        if secret := volume.pop("secret", None):
            # Only what the manifest names, under the name it is mounted by.
            folder = secrets.parent / f"secrets-of-{name}"
            folder.mkdir()
            for item in secret["items"]:
                shutil.copy(secrets / item["key"], folder / item["path"])
            volume["hostPath"] = {"path": str(folder), "type": "Directory"}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": pod}
    return Workload(name, made, probes, ports)


class Podman:
    """Podman with data of its own, and one network."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lesionlens-podman-"))
        (self._folder / "containers.conf").write_text(_CONFIGURATION)
        self._network = f"lesionlens-{os.getpid()}"

    @staticmethod
    def why_not() -> str | None:
        """What keeps Podman from running here; None when nothing does that can be seen before it is tried."""
        if os.geteuid() != 0:
            return "Podman is tried as root alone"
        missing = {package for tool, package in NEEDED.items() if shutil.which(tool) is None}
        missing |= {
            package
            for tool, package in _HELPERS.items()
            if not any(Path(folder, tool).exists() for folder in _HELPER_FOLDERS)
        }
        return f"apt-get install --no-install-recommends {' '.join(sorted(missing))}" if missing else None

    def start(self) -> None:
        """Make the network; raises RuntimeError with what Podman says where it cannot run."""
        self("network", "create", self._network)

    def stop(self) -> None:
        """End every Pod; nothing is left."""
        self.ask("pod", "rm", "--all", "--force", "--time", "5")
        self.ask("network", "rm", "--force", self._network)
        self.ask("rm", "--all", "--force")
        self.ask("rmi", "--all", "--force")
        shutil.rmtree(self._folder, ignore_errors=True)

    def __call__(self, *words: str) -> str:
        """Standard output of `podman …`."""
        done = self.ask(*words)
        if done.returncode:
            raise RuntimeError(f"podman {' '.join(words)}: status {done.returncode}\n{done.stderr[-4000:]}")
        return done.stdout.strip()

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The same, whatever its status."""
        return subprocess.run(
            self._command(*words), env=self._environment(), text=True, capture_output=True, check=False
        )

    def load(self, saved: subprocess.Popen[bytes]) -> None:
        """Take images out of a running `docker save`."""
        command, environment = self._command("load", "--quiet"), self._environment()
        with saved:
            done = subprocess.run(command, env=environment, stdin=saved.stdout, capture_output=True, check=False)
        assert saved.returncode == 0
        assert done.returncode == 0, done.stderr.decode()[-4000:]

    def try_out(self, image: str) -> None:
        """Run one container of `image` to its end; raises RuntimeError with what Podman says where it cannot."""
        self("run", "--rm", "--network", self._network, "--memory", "64m", "--entrypoint", "true", image)

    def play(self, workload: Workload, configs: Sequence[Document]) -> None:
        """`podman kube play` of one Pod with the ConfigMaps it may name."""
        file = self._folder / f"{workload.name}.yaml"
        file.write_text(yaml.safe_dump_all([*configs, workload.pod]))
        # Volumes first: one claim may be several Pods', and Podman makes a claim only once.
        for volume in workload.pod["spec"].get("volumes", []):
            if claim := volume.get("persistentVolumeClaim", {}).get("claimName"):
                self.ask("volume", "create", claim)
        self("kube", "play", "--network", self._network, str(file))

    def container(self, workload: Workload) -> str:
        """Name of the one container."""
        return f"{workload.name}-{workload.pod['spec']['containers'][0]['name']}"

    def address(self, workload: Workload) -> str:
        """IP address of the Pod."""
        infra = self("pod", "inspect", workload.name, "--format", "{{.InfraContainerID}}")
        return self("inspect", infra, "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")

    def passes(self, workload: Workload, kind: str) -> bool:
        """Whether a probe of the manifest succeeds now; a workload without that probe needs none."""
        probe = workload.probes.get(kind)
        if probe is None:
            return True
        timeout_s = probe.get("timeoutSeconds", 1) + 30  # a busy machine
        if "exec" in probe:
            return self.ask("exec", self.container(workload), *probe["exec"]["command"]).returncode == 0
        (how,) = {"httpGet", "tcpSocket", "grpc"} & probe.keys()
        host, port = self.address(workload), workload.ports[probe[how]["port"]]
        try:
            if how == "httpGet":
                return requests.get(f"http://{host}:{port}{probe[how]['path']}", timeout=timeout_s).ok
            if how == "tcpSocket":
                socket.create_connection((host, port), timeout_s).close()
                return True
            with grpc.insecure_channel(f"{host}:{port}") as channel:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
        except (OSError, grpc.RpcError):
            return False

    def _command(self, *words: str) -> list[str]:
        return ["podman", "--root", str(self._folder / "data"), "--runroot", str(self._folder / "run"), *words]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CONTAINERS_CONF": str(self._folder / "containers.conf")}
