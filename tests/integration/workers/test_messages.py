"""Messages are JSON: a real worker refuses a pickle without opening it, and goes on."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import redis
from sqlalchemy import text

from services.analysis.doorbell import SOCKET_TIMEOUT_S, Doorbell, make_celery
from services.analysis.record import AnalysisRecord, Submission
from services.analysis.settings import load_settings
from services.analysis.states import PREPARE, AnalysisState
from tests.e2e.product import ROOT, eventually

#: Seconds in which a worker has started, or has come back.
WITHIN_S = 60


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return (exec, (f"import pathlib; pathlib.Path({str(self.file)!r}).write_text('opened')",))


def pickled_message(file: Path) -> str:
    """What Celery's own client would put into Redis with `task_serializer=pickle`."""
    body = base64.b64encode(pickle.dumps(([Trap(file)], {}, {}))).decode()
    delivery = {"exchange": "", "routing_key": PREPARE.queue}
    return json.dumps(
        {
            "body": body,
            "content-encoding": "binary",
            "content-type": "application/x-python-serialize",
            "headers": {"lang": "py", "task": PREPARE.task, "id": str(uuid.uuid4()), "argsrepr": "", "kwargsrepr": ""},
            "properties": {
                "correlation_id": str(uuid.uuid4()), "delivery_mode": 2, "delivery_info": delivery, "priority": 0,
                "body_encoding": "base64", "delivery_tag": str(uuid.uuid4()),
            },
        }
    )  # fmt: skip


@pytest.fixture
def worker_log(postgres_url, redis_url, tmp_path):
    """Log of a preprocessor's worker that runs meanwhile."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": postgres_url, "REDIS_URL": redis_url,
        "BLOB_STORE_URL": (tmp_path / "blobs").as_uri(),
    }  # fmt: skip
    command = [
        sys.executable, "-m", "celery", "-A", "services.preprocessor.worker", "worker", "--queues", PREPARE.queue,
        "--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat",
    ]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
        try:
            yield tmp_path / "log"
        finally:
            worker.terminate()
            worker.wait(60)


@pytest.fixture
def doorbell(redis_url):
    return Doorbell(make_celery(load_settings({"REDIS_URL": redis_url}), "test"), redis_url)


@pytest.mark.slow
def test_a_pickle_is_refused_unopened_by_the_real_worker(engine, redis_url, doorbell, tmp_path, request):
    trap = tmp_path / "opened"
    assert pickle.loads(pickle.dumps(Trap(trap))) is None
    assert trap.read_text() == "opened", "the trap works where somebody opens it"
    trap.unlink()
    record, analysis_id = AnalysisRecord(engine), uuid.uuid4()
    record.accept(Submission(analysis_id, b"digest"))
    with redis.Redis.from_url(redis_url) as queue:
        queue.lpush(PREPARE.queue, pickled_message(trap))
    # After the pickle, an honest message: its analysis fails for want of a photograph, which shows that it was heard.
    doorbell.ring(PREPARE, analysis_id)
    log = request.getfixturevalue("worker_log")
    eventually(lambda: record.find(analysis_id).state is AnalysisState.FAILED, WITHIN_S)
    assert not trap.exists()
    assert b"refus" in log.read_bytes().lower() or b"disabled" in log.read_bytes().lower()


@pytest.mark.slow
def test_a_worker_that_could_not_acknowledge_goes_on_listening(engine, redis_url, doorbell, worker_log):
    record, first, second = AnalysisRecord(engine), uuid.uuid4(), uuid.uuid4()
    for number, analysis_id in enumerate((first, second)):
        record.accept(Submission(analysis_id, bytes([number])))
    with engine.begin() as holding, redis.Redis.from_url(redis_url) as queue:
        holding.execute(text("SELECT FROM analysis WHERE id = :id FOR UPDATE"), {"id": first})
        doorbell.ring(PREPARE, first)
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        eventually(lambda: holding.execute(waiting).scalar_one(), WITHIN_S)
        queue.client_pause(round((SOCKET_TIMEOUT_S + 1) * 1_000), all=True)
    # The lock is gone: the task ends while Redis does not answer.
    eventually(lambda: b"Couldn't ack" in worker_log.read_bytes(), WITHIN_S)
    eventually(doorbell.answers, WITHIN_S)
    doorbell.ring(PREPARE, second)
    eventually(lambda: record.find(second).state is AnalysisState.FAILED, WITHIN_S)


def test_celery_takes_and_sends_nothing_but_json():
    conf = make_celery(load_settings({"REDIS_URL": "redis://x"}), "test").conf
    assert (conf.accept_content, conf.task_serializer, conf.result_backend) == (["json"], "json", None)
