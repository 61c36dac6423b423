"""The README's programs run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from services.webhooks.signature import signed_headers, told_secret
from tests.integration.gateway.conftest import BLURRED, photograph
from tests.integration.gateway.service import served

README = (Path(__file__).resolve().parents[3] / "README.md").read_text()
ADDRESS = "http://localhost:8000"


@pytest.fixture
def service(app):
    with served(app) as service:
        yield service


@pytest.fixture
def snippet(service, tmp_path):
    """The README's block in a language, with the address of this test's gateway."""
    (tmp_path / "mole.jpg").write_bytes(photograph())

    def read(language):
        blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
        (block,) = (block for block in blocks if ADDRESS in block)
        return block.replace(ADDRESS, service.url)

    return read


def run(command, program, folder):
    path = folder / f"snippet{'.py' if command == sys.executable else '.mjs'}"
    path.write_text(program)
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[3]), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [command, path], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def javascript(block):
    return f'import fs from "node:fs";\nconst file = new Blob([fs.readFileSync("mole.jpg")]);\n{block}'


def node():
    playwright = pytest.importorskip("playwright")
    return str(Path(playwright.__file__).parent / "driver" / "node")


def test_the_python_program(service, snippet, workers, tmp_path):
    service.accepted = workers.finish
    assert run(sys.executable, snippet("python"), tmp_path).startswith("unsure 0.34 ")
    service.accepted = workers.reject
    assert run(sys.executable, snippet("python"), tmp_path).strip() == BLURRED.sentence


@contextmanager
def at_work(engine, end):
    """Somebody who ends what is queued while its sender already waits for the answer."""
    stop = threading.Event()

    def work():
        while not stop.wait(0.05):
            with engine.connect() as connection:
                queued = connection.execute(text("SELECT id FROM analysis WHERE state = 'queued'")).scalars().all()
            for analysis_id in queued:
                end(analysis_id)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()


def test_the_javascript_program(engine, snippet, workers, tmp_path):
    with at_work(engine, workers.finish):
        assert run(node(), javascript(snippet("js")), tmp_path).strip() == "unsure"
    with at_work(engine, workers.reject):
        assert run(node(), javascript(snippet("js")), tmp_path).strip() == BLURRED.sentence


def test_the_javascript_program_says_what_a_later_look_is_refused_with(app, service, snippet, tmp_path):
    app.extensions["lesionlens"].drain()  # nobody is made to wait any more
    service.moments.extend([None, (503, {})])
    with pytest.raises(AssertionError, match=r"Error: Made up: .* Wait\."):
        run(node(), javascript(snippet("js")), tmp_path)


def test_the_receiver_of_a_webhook(tmp_path):
    (block,) = (block for block in re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
                if "verify_webhook" in block)  # fmt: skip
    secret = b"k" * 32
    body = b'{"type":"analysis.done","data":{"id":"7"}}'
    headers = dict(signed_headers("m", int(time.time()), body, secret))
    request = f"import types\nrequest = types.SimpleNamespace(body={body!r}, headers={headers!r})\n"
    program = request + block.replace("whsec_…", told_secret(secret))
    assert run(sys.executable, program, tmp_path) == "analysis.done 7\n"
