"""The product with everything around it that can break: model servers of its own behind proxies, a small disk."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import sqlalchemy as sa

from services.analysis.results import NETWORKS
from serving.client import RemoteEnsemble
from tests.chaos.toxic_proxy import ToxicProxy
from tests.conftest import free_port
from tests.e2e.product import ROOT, Product, eventually

#: Bytes of the disk that photographs are kept on: enough for what waits, and quickly full.
DISK_BYTES = 256 * 1024 * 1024

#: Seconds for four model servers to be ready at first; they start at the same time, on whatever cores there are.
NETWORKS_WITHIN_S = 600

#: Every write that ends an analysis is noted by the database itself, so that a second one cannot go unseen.
_NOTE_ENDINGS = """
CREATE TABLE chaos_ending (analysis_id uuid NOT NULL, state text NOT NULL);
CREATE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO chaos_ending (analysis_id, state) VALUES (NEW.id, NEW.state); RETURN NULL; END $$;
CREATE TRIGGER chaos_note AFTER UPDATE ON analysis FOR EACH ROW
WHEN (NEW.state IN ('done', 'rejected', 'failed')
      AND (OLD.state <> NEW.state OR OLD.finished_at IS DISTINCT FROM NEW.finished_at))
EXECUTE FUNCTION chaos_note();
"""
_NOTE_NO_MORE = "DROP TRIGGER chaos_note ON analysis; DROP FUNCTION chaos_note; DROP TABLE chaos_ending;"


class ModelServer:
    """One network in a process of its own, started again when it dies, as Kubernetes would."""

    def __init__(self, network: str, environment: dict[str, str], log: Path) -> None:
        self.network = network
        self.port = free_port()
        self._environment = environment
        self._log = log
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        while self._process is None:
            time.sleep(0.01)
        return self._process.pid

    def stop(self) -> None:
        self._stopping.set()
        if self._process is not None:
            self._process.kill()
        self._thread.join()

    def _keep(self) -> None:
        while not self._stopping.is_set():
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [
                        sys.executable, "-m", "serving.embedded", "--models", str(ROOT / "serving/models"),
                        "--endpoint", f"{self.network}={self.port}",
                    ],
                    cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            self._process.wait()
            self._stopping.wait(0.2)


class World:
    """`product` is what is tested; `servers` and `proxies` are empty where it has its own networks.

    `disk` is the small disk that its photographs lie on, if there is one.
    """

    def __init__(self, product: Product) -> None:
        self.product = product
        self.disk: Path | None = None
        self.servers: dict[str, ModelServer] = {}
        self.proxies: dict[str, ToxicProxy] = {}

    @contextmanager
    def database(self) -> Iterator[sa.Connection]:
        url = f"postgresql+psycopg2://postgres@/lesionlens?host={self.product.folder}/run/postgres"
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            yield connection

    def kill(self, name: str) -> None:
        """SIGKILL for a program, or for the server of a network."""
        pid = self.servers[name].pid if name in self.servers else self.product.pid_of(name)
        os.kill(pid, signal.SIGKILL)

    def worker_processes(self, name: str) -> list[psutil.Process]:
        """The processes that do the work of `name`."""
        return psutil.Process(self.product.pid_of(name)).children()


@contextmanager
def fragile_world(folder: Path) -> Iterator[World]:
    """A product with a server for each network behind a proxy, and a small disk; nothing of it is left afterwards."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    disk = _mounted(folder / "disk")
    servers = {name: ModelServer(name, environment, folder / f"{name}.log") for name in NETWORKS}
    proxies = {name: ToxicProxy(server.port) for name, server in servers.items()}
    addresses = {name: f"127.0.0.1:{proxy.port}" for name, proxy in proxies.items()}
    settings = {f"{name.upper()}_SERVING_URL": address for name, address in addresses.items()}
    if disk is not None:
        settings["BLOB_STORE_URL"] = disk.as_uri()
    product = Product(folder / "data", free_port(), IMAGE_RETENTION_H="0", **settings)
    world = World(product)
    world.disk, world.servers, world.proxies = disk, servers, proxies
    try:
        with RemoteEnsemble(addresses) as networks:
            eventually(lambda: all(networks.readiness(2.0).values()), NETWORKS_WITHIN_S)
        product.start()
        with endings_noted(world):
            yield world
    finally:
        product.kill()
        for proxy in proxies.values():
            proxy.close()
        for server in servers.values():
            server.stop()
        if disk is not None:
            subprocess.run(["umount", "--lazy", str(disk)], check=False)


@contextmanager
def endings_noted(world: World) -> Iterator[None]:
    """Has the database note every end of an analysis, for the length of a block."""
    with world.database() as connection:
        connection.execute(sa.text(_NOTE_ENDINGS))
    try:
        yield
    finally:
        wait_for_database(world)
        with contextlib.suppress(sa.exc.SQLAlchemyError), world.database() as connection:
            connection.execute(sa.text(_NOTE_NO_MORE))


def _mounted(folder: Path) -> Path | None:
    """A small disk in memory at `folder`; None where one may not be made."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    return folder if done.returncode == 0 else None


def wait_for_database(world: World) -> None:
    """PostgreSQL may be coming back just now."""

    def answers() -> bool:
        with world.database() as connection:
            return bool(connection.execute(sa.text("SELECT true")).scalar_one())

    with contextlib.suppress(AssertionError):
        eventually(answers, 60)
