"""Every service is restarted, one after the other, while people send photographs: none of their requests breaks."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from tests.conftest import free_port, lesion_photograph
from tests.e2e.product import Product, eventually, running

#: In the order in which an operator would do it: what others stand on first.
SERVICES = ("postgres", "valkey", "networks", "preprocessor", "stacker", "beat")
CLIENTS = 3
#: Seconds until a service that was restarted works again; a busy machine needs minutes to compile four networks.
BACK_WITHIN_S = 400

pytestmark = pytest.mark.skipif(
    os.environ.get("LESIONLENS_CHAOS_TESTS") != "1", reason="restarts everything, which takes minutes: make chaos"
)


class Clients:
    """People who send a photograph, ask for its answer, and begin again; a refusal is no failure, anything else is."""

    def __init__(self, product: Product) -> None:
        self.accepted: list[str] = []
        self.failures: list[str] = []
        self.refused = 0
        self._product = product
        self._stop = threading.Event()
        self._image = lesion_photograph(7)

    def stop(self) -> None:
        self._stop.set()

    def go_on(self) -> None:
        while not self._stop.wait(0.2):
            answer = self._ask("POST", "/v1/analyses", files={"image": self._image}, data={"force": "true"})
            if answer is None or answer.status_code != 202:
                continue
            self.accepted.append(answer.json()["id"])
            self._ask("GET", answer.headers["Location"], headers={"Prefer": "wait=2"})

    def _ask(self, method: str, path: str, **arguments: object) -> requests.Response | None:
        try:
            answer = requests.request(method, self._product.base_url + path, timeout=60, **arguments)
        except requests.RequestException as error:
            self.failures.append(f"{method}: {error!r}")
            return None
        if answer.status_code in (429, 503) and "Retry-After" in answer.headers:
            self.refused += 1
        elif answer.status_code not in (200, 202):
            self.failures.append(f"{method}: {answer.status_code} {answer.text[:200]}")
        return answer


@pytest.fixture
def product() -> Iterator[Product]:
    with (
        tempfile.TemporaryDirectory(prefix="ll-chaos-") as folder,
        running(Product(Path(folder) / "data", free_port())) as product,
    ):
        yield product


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_a_rolling_restart_breaks_no_request(product: Product) -> None:
    clients = Clients(product)
    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(CLIENTS):
            pool.submit(clients.go_on)
        try:
            for name in SERVICES:
                restart(product, name)
            replace_gateway(product)
            eventually(lambda: len(clients.accepted) > CLIENTS, BACK_WITHIN_S)
        finally:
            clients.stop()

    assert clients.failures == []
    assert [product.ended(analysis_id)["state"] for analysis_id in clients.accepted] == ["done"] * len(clients.accepted)


def restart(product: Product, name: str) -> None:
    """Asks it to end in good order; it is started again at once."""
    pid = product.pid_of(name)
    os.kill(pid, signal.SIGINT if name == "postgres" else signal.SIGTERM)
    eventually(lambda: product.pid_of(name) != pid, BACK_WITHIN_S)
    eventually(product.is_ready, BACK_WITHIN_S)


def replace_gateway(product: Product) -> None:
    """SIGHUP: gunicorn starts a new process on the same socket before the old one ends."""
    master = psutil.Process(product.pid_of("gateway"))
    before = {process.pid for process in master.children()}
    master.send_signal(signal.SIGHUP)
    eventually(lambda: not before & {process.pid for process in master.children()}, BACK_WITHIN_S)
    eventually(product.is_ready, BACK_WITHIN_S)
