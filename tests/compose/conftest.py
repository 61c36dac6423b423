"""The whole of docker-compose.yml, built and run; only where `make test-compose` asks for it."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
PROJECT = "lesionlens-test"
#: Seconds in which a container that was started again has to be well: longer than its start on a busy machine and three
#: checks after it.
WELL_WITHIN_S = 180.0
#: Which official image each stand-in is tagged as; a test compares it with what the files ask for.
STAND_INS = {
    "python": "python:3.11-slim",
    "redis": "redis:7.4-bookworm",
    "postgres": "postgres:17-bookworm",
    "serving": "tensorflow/serving:2.19.1",
    "minio": "quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z",
}

#: What needs an engine; what is about waiting itself does not.
collect_ignore = [] if os.environ.get("LESIONLENS_COMPOSE_TESTS") else ["test_compose.py", "test_kubernetes.py"]

_measured: list[str] = []


def _beside(name: str) -> Any:
    spec = spec_from_file_location(f"compose_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses ask for it by name
    spec.loader.exec_module(module)
    return module


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            # The first of them waits for everything to be built.
            item.add_marker(pytest.mark.timeout(1800))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in _measured:
        terminalreporter.write_line(f"measured: {line}")


def measured(what: str, began: float) -> None:
    """Note how long something took, for the end of the run."""
    _measured.append(f"{what}: {time.monotonic() - began:.1f} s")


class Stack:
    """The running compose project, and somebody who visits it."""

    def __init__(self, engine: Any, folder: Path, project: str, address: str) -> None:
        self.engine = engine
        self.folder = folder
        self.project = project
        self.address = address
        visitor = _beside("visitor").Visitor(address)
        self.upload: Callable[..., str] = visitor.upload
        self.end_of: Callable[[str], dict[str, Any]] = visitor.end_of
        self.wait_until_ready: Callable[[], None] = visitor.wait_until_ready

    def compose(self, *words: str) -> str:
        return self.engine.compose(self.folder, *words)

    def docker(self, *words: str) -> str:
        return self.engine.docker(*words)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--quiet", service).split()

    def inspect(self, container: str, what: str) -> str:
        return self.docker("inspect", "--format", what, container)

    def note(self, what: str, began: float) -> None:
        measured(what, began)

    def note_text(self, what: str) -> None:
        _measured.append(what)

    def run_in(self, service: str, *words: str) -> str:
        return self.compose("exec", "-T", service, *words)

    def until_well(self, services: Sequence[str]) -> None:
        """Wait until every container of these services runs and is healthy; one that never is fails with its reason."""
        health = _beside("health")
        whose = f"label=com.docker.compose.project={self.project}"

        def look() -> list[str]:
            listed = self.docker("ps", "--all", "--quiet", "--filter", whose).split()
            said: list[str] = health.ailments(json.loads(self.docker("inspect", *listed)) if listed else [], services)
            return said

        health.until_nothing_is_said(look, WELL_WITHIN_S)


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    module = _beside("engine")
    engine = module.Engine(module.CACHE)
    try:
        engine.start()
        began = time.monotonic()
        engine.bootstrap()
        for name, tag in STAND_INS.items():
            if name != "serving":  # it stands on an image of the project
                engine.build_stand_in(name, tag)
        measured("stand-ins for the official images", began)
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this checkout as a fresh clone would have them, with a secrets folder of its own."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, text=True, capture_output=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    if models := os.environ.get("MODELS_DIR"):
        shutil.copytree(models, folder / "serving" / "models", dirs_exist_ok=True)
    subprocess.run(["sh", "secrets.sh", "secrets"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    (folder / "secrets" / "blob_keys").write_text(f"2026-11:{key}\n")
    return folder


@pytest.fixture(scope="session")
def images(engine: Any, checkout: Path) -> Any:
    """The engine with every image built: by the Dockerfiles and the compose file as they stand."""
    embedded = str(checkout / "serving/Dockerfile.embedded")
    engine.docker("build", "--quiet", "--file", embedded, "--tag", "lesionlens/serving-embedded", str(checkout))
    engine.build_stand_in("serving", STAND_INS["serving"])
    began = time.monotonic()
    engine.compose(checkout, "build")
    measured("docker compose build", began)
    serving = str(checkout / "serving/Dockerfile")
    engine.docker("build", "--quiet", "--file", serving, "--tag", "lesionlens/serving", str(checkout))
    return engine


@pytest.fixture(scope="session")
def beside() -> Callable[[str], Any]:
    """A module that lies beside this file."""
    return _beside


@pytest.fixture(scope="session")
def note() -> Callable[[str, float], None]:
    """Notes how long something took, for the end of the run."""
    return measured


@pytest.fixture(scope="session")
def running(images: Any, checkout: Path) -> Iterator[Stack]:
    """docker-compose.yml, built and up, for all tests."""
    with _up(images, checkout, PROJECT, "docker-compose.yml") as stack:
        yield stack


@pytest.fixture
def embedded_stack(images: Any, checkout: Path, tmp_path: Path) -> Iterator[Stack]:
    """The same with compose.embedded.yml on top and images in the profile's S3 store, from what is built."""
    shutil.copytree(checkout, tmp_path / "checkout")
    files = "docker-compose.yml:compose.embedded.yml"
    in_s3 = {"COMPOSE_PROFILES": "s3", "BLOB_STORE_URL": "s3://lesionlens", "S3_ENDPOINT": "http://minio:9000"}
    with _up(images, tmp_path / "checkout", f"{PROJECT}-embedded", files, in_s3) as embedded:
        yield embedded


@contextmanager
def _up(
    engine: Any, folder: Path, project: str, files: str, more: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Stack]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"PORT": port, "COMPOSE_PROJECT_NAME": project, "COMPOSE_FILE": files, "UPLOADS_PER_MINUTE": 1000}
    settings |= more
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    stack = Stack(engine, folder, project, f"http://127.0.0.1:{port}")
    try:
        began = time.monotonic()
        try:
            stack.compose("up", "--detach", "--wait")
        except RuntimeError as error:
            said = stack.compose("logs", "--tail", "30")
            raise AssertionError(f"{str(error)[-500:]}\n{stack.compose('ps', '--all')}\n{said}") from None
        measured(f"docker compose up --wait ({files})", began)
        yield stack
    finally:
        stack.compose("down", "--volumes", "--remove-orphans", "--timeout", "20")
        label = f"label=com.docker.compose.project={project}"
        for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
            assert not engine.docker(*kind, "--quiet", "--filter", label), f"`down --volumes` left {kind[0]}s"
