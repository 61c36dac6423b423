"""The whole product as `make run` starts it, for tests that talk to it from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
import requests
import tenacity

from tests.e2e.collector import Collector

ROOT = Path(__file__).resolve().parents[2]
#: Seconds to be ready. Fifteen on two idle cores; a build machine may have fewer, and other work.
READY_WITHIN_S = 150
#: Seconds an analysis may take, sweeps and restarts included.
DONE_WITHIN_S = 90
#: Seconds from a signal to the end of the last process, as promised in the README.
STOPPED_WITHIN_S = 10

Value = TypeVar("Value")


def eventually(question: Callable[[], Value], within_s: float) -> Value:
    """The first true answer to `question`; exceptions count as "not yet"."""
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_delay(within_s),
        wait=tenacity.wait_fixed(0.1),
        retry=tenacity.retry_if_exception_type() | tenacity.retry_if_result(lambda answer: not answer),
    )
    return retrying(question)


class Product:
    """A supervisor with everything below it, its data in `folder`."""

    def __init__(self, folder: Path, port: int, **settings: str) -> None:
        self.folder = folder
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}"
        self.log = folder.with_name(f"{folder.name}.log")
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PORT": str(port),
            "DATA_DIR": str(folder),
            "UPLOADS_PER_MINUTE": "100000",
            "POLLS_PER_MINUTE": "100000",
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None
        #: Who is sent its traces, where somebody is.
        self.collector: Collector | None = None

    def start(self) -> Product:
        """Starts it, as a group of its own, and waits until it says that it is ready."""
        self.begin()
        try:
            eventually(self._ready_or_ended, READY_WITHIN_S)
            assert self.process is not None
            assert self.process.poll() is None, f"it ended with {self.process.returncode}"
        except BaseException:
            sys.stderr.write(self.log.read_text()[-20_000:])
            self.kill()
            raise
        return self

    def begin(self) -> subprocess.Popen[bytes]:
        """Starts it and does not wait."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lesionlens", "run"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def refused(self) -> tuple[int, str]:
        """Starts it where it cannot start: its exit status and what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "lesionlens", "run"],
            cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the whole group that a terminal or a service manager would reach."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def wait(self) -> int:
        """Waits for the supervisor's end; its exit status."""
        assert self.process is not None
        return self.process.wait(STOPPED_WITHIN_S + 5)

    def kill(self) -> None:
        """Ends whatever is left, without ceremony, and waits for its end: the folder may be deleted then."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        left = set(self.processes())
        for process in tuple(left):
            # PostgreSQL's workers name no folder, and write on for a moment when their parent is killed.
            with contextlib.suppress(psutil.NoSuchProcess):
                left.update(process.children(recursive=True))
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, STOPPED_WITHIN_S)

    def processes(self) -> list[psutil.Process]:
        """Every living process that was started for this product, whoever is its parent by now."""
        found = []
        for process in psutil.process_iter():
            try:
                belongs = process.environ().get("DATA_DIR") == str(self.folder)
                belongs = belongs or any(str(self.folder) in word for word in process.cmdline())
                if belongs and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def pid_of(self, name: str) -> int:
        """The process that runs as `name` now."""
        return int((self.folder / "run" / f"{name}.pid").read_text())

    def is_ready(self) -> bool:
        """What /readyz says."""
        return requests.get(f"{self.base_url}/readyz", timeout=10).status_code == 200

    def upload(self, image: bytes, **form: str) -> requests.Response:
        """Posts a photograph."""
        return requests.post(
            f"{self.base_url}/v1/analyses", files={"image": ("photo.jpg", image)}, data=form, timeout=30
        )

    def accepted(self, image: bytes, **form: str) -> str:
        """Posts a photograph that is taken; the id of its analysis."""
        response = self.upload(image, **form)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def accepted_once_back(self, image: bytes, **form: str) -> str:
        """Posts a photograph as often as the answer is "not now, try again after …"; the id of its analysis."""

        def answered() -> requests.Response | None:
            response = self.upload(image, **form)
            return None if response.status_code == 503 and response.headers["Retry-After"] else response

        response = eventually(answered, READY_WITHIN_S)
        assert response is not None
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    def finished_upload(self, image: bytes) -> dict[str, Any]:
        """Posts a photograph and waits for its end in the same request."""
        response = requests.post(
            f"{self.base_url}/v1/analyses", files={"image": ("photo.jpg", image)}, data={"force": "true"},
            headers={"Prefer": "wait=25"}, timeout=40,
        )  # fmt: skip
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    def analysis(self, analysis_id: str) -> dict[str, Any]:
        """What it says about an analysis now."""
        response = requests.get(f"{self.base_url}/v1/analyses/{analysis_id}", timeout=30)
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    def ended(self, analysis_id: str) -> dict[str, Any]:
        """Waits until nothing more will happen to an analysis."""

        def terminal() -> dict[str, Any] | None:
            document = self.analysis(analysis_id)
            return document if document["state"] in ("done", "rejected", "failed") else None

        document = eventually(terminal, DONE_WITHIN_S)
        assert document is not None
        return document

    def accept_at_once(self, images: list[bytes], **form: str) -> list[str]:
        """Posts many photographs at the same time; their ids in the same order."""
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda image: self.accepted(image, **form), images))

    def _ready_or_ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None or self.is_ready()


@contextmanager
def running(product: Product) -> Iterator[Product]:
    """`product` for the length of a block; whatever the block did, nothing of it runs afterwards."""
    try:
        yield product.start()
    finally:
        product.kill()
