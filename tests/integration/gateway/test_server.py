"""The gateway as gunicorn serves it, over a real socket."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import psutil
import pytest
import tenacity
from PIL import Image
from sqlalchemy import text

from services.analysis.results import NETWORKS


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


#: Seconds of silence in place of the shipped ones, which a test holds against their bound.
SILENCE_S = 2
HEAD_S = 6
BODY_S = 8
CONFIGURATION = f"""
from services.gateway import gunicorn, pace, punctual
gunicorn.CLIENT_SILENCE_S = {SILENCE_S}
punctual.HEAD_S, pace.BODY_S = {HEAD_S}, {BODY_S}
from services.gateway.gunicorn import *
"""


@pytest.fixture
def server(settings, port, tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text(CONFIGURATION)
    environment = {
        **os.environ,
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "DATA_DIR": str(settings.data_dir),
        "PORT": str(port),
        **{f"{name.upper()}_SERVING_URL": "127.0.0.1:9" for name in NETWORKS},
    }
    command = ["-m", "gunicorn", "--config", tmp_path / "gunicorn.conf.py", "services.gateway.wsgi:app()"]
    process = subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.DEVNULL)
    try:
        _wait_until_alive(port)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait(10)


@tenacity.retry(stop=tenacity.stop_after_delay(60), wait=tenacity.wait_fixed(0.1), reraise=True)
def _wait_until_alive(port):
    assert call(port, "GET", "/healthz")[0] == 200


@tenacity.retry(stop=tenacity.stop_after_delay(140), wait=tenacity.wait_fixed(0.05), reraise=True)
def _wait_until(condition):
    assert condition()


def call(port, method, path, body=None, headers=None, timeout=30):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def multipart(data):
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="x.jpg"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def photograph():
    file = io.BytesIO()
    Image.effect_noise((320, 240), 40).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def listening(engine):
    with engine.connect() as connection:
        return connection.execute(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lesionlens-changes'"
                " AND datname = current_database()"
            )
        ).scalar_one()


def test_the_way_of_an_upload_over_a_socket_and_the_end_of_the_server(server, port, engine):
    # A client that writes all of 20 MB before it listens gets its answer, not a broken connection.
    status, headers, _ = call(port, "POST", "/v1/analyses", *multipart(b"x" * 20_000_000))
    assert (status, headers["Content-Type"]) == (413, "application/problem+json")

    status, headers, _ = call(port, "POST", "/v1/analyses", *multipart(photograph()))
    assert status == 202
    address = headers["Location"]

    answers = []

    def wait():
        answers.append(call(port, "GET", address, headers={"Prefer": "wait=25"})[0])

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    _wait_until(lambda: listening(engine))
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(20)
    # Nobody who waits is dropped, and nobody keeps the server from ending.
    assert answers == [200, 200, 200]
    assert server.wait(20) == 0
    assert time.monotonic() - began < 10


@pytest.mark.timeout(420)  # the new process starts while the old one ends; meanwhile requests wait at the socket
def test_a_new_process_takes_over_and_no_request_breaks(server, port):
    answers, failures, stop = [], [], threading.Event()

    def send():
        while not stop.is_set():
            try:
                answers.append(call(port, "POST", "/v1/analyses", *multipart(photograph()), timeout=150)[0])
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))

    _wait_until(lambda: call(port, "GET", "/healthz")[0] == 200)
    before = workers_of(server)
    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    _wait_until(lambda: len(answers) > 10)
    server.send_signal(signal.SIGHUP)
    _wait_until(lambda: workers_of(server) and not before & workers_of(server))
    seen = len(answers)
    _wait_until(lambda: len(answers) > seen + 5)
    stop.set()
    for thread in threads:
        thread.join(60)

    assert failures == []
    assert set(answers) <= {202, 429, 503}
    assert 202 in answers


def workers_of(server):
    return {process.pid for process in psutil.Process(server.pid).children()}
