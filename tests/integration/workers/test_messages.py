"""Messages are JSON: a real worker refuses a pickle without opening it, and goes on; addresses may ask for TLS."""

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
import tenacity

from services.analysis.database import make_engine
from services.analysis.doorbell import Doorbell, make_celery
from services.analysis.errors import DatabaseUnavailableError
from services.analysis.record import AnalysisRecord, Submission
from services.analysis.settings import load_settings
from services.analysis.states import PREPARE, AnalysisState

ROOT = Path(__file__).resolve().parents[3]


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


@pytest.mark.slow
def test_a_pickle_is_refused_unopened_by_the_real_worker(engine, postgres_url, redis_url, tmp_path):
    trap = tmp_path / "opened"
    assert pickle.loads(pickle.dumps(Trap(trap))) is None
    assert trap.read_text() == "opened", "the trap works where somebody opens it"
    trap.unlink()
    record, analysis_id = AnalysisRecord(engine), uuid.uuid4()
    record.accept(Submission(analysis_id, b"digest"))
    with redis.Redis.from_url(redis_url) as queue:
        queue.lpush(PREPARE.queue, pickled_message(trap))
    # After the pickle, an honest message: its analysis fails for want of a photograph, which shows that it was heard.
    Doorbell(make_celery(load_settings({"REDIS_URL": redis_url}), "test"), redis_url).ring(PREPARE, analysis_id)
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
            for attempt in tenacity.Retrying(stop=tenacity.stop_after_delay(120), wait=tenacity.wait_fixed(0.2)):
                with attempt:
                    assert record.find(analysis_id).state is AnalysisState.FAILED
        finally:
            worker.terminate()
            worker.wait(60)
    assert not trap.exists()
    assert b"refus" in (tmp_path / "log").read_bytes().lower() or b"disabled" in (tmp_path / "log").read_bytes().lower()


def test_celery_takes_and_sends_nothing_but_json():
    conf = make_celery(load_settings({"REDIS_URL": "redis://x"}), "test").conf
    assert (conf.accept_content, conf.task_serializer, conf.result_backend) == (["json"], "json", None)


def test_a_database_without_tls_is_not_talked_to_when_tls_is_asked_for(postgres_url):
    """`sslmode` reaches libpq: it refuses this server, which has no TLS, instead of falling back to plain text."""
    engine = make_engine(f"{postgres_url}&sslmode=verify-full" if "?" in postgres_url else f"{postgres_url}?sslmode=x")
    arguments = engine.dialect.create_connect_args(engine.url)[1]
    engine.dispose()
    assert arguments["sslmode"] == "verify-full"


def test_tls_to_the_database_is_never_dropped_in_silence(redis_url):
    """Something that answers and is no PostgreSQL with TLS: over TCP, `require` must end in an error."""
    address = redis_url.removeprefix("redis://").removesuffix("/0")
    engine = make_engine(f"postgresql://lesionlens:secret@{address}/x?sslmode=require")
    with pytest.raises(DatabaseUnavailableError):
        AnalysisRecord(engine).find(uuid.uuid4())
    engine.dispose()


class _Certificate:
    """A self-made authority's certificate for localhost, and its key, in files."""

    def __init__(self, folder: Path) -> None:
        import datetime as dt
        import ipaddress

        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = dt.datetime.now(dt.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
            .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )  # fmt: skip
        self.certificate, self.key = folder / "ca.pem", folder / "key.pem"
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


@pytest.fixture
def tls_redis(redis_url, tmp_path):
    """Port of a TLS end in front of the real Valkey, and the certificate to believe."""
    import contextlib
    import socket
    import ssl
    import threading

    made = _Certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    host, _, port = redis_url.removeprefix("redis://").removesuffix("/0").partition(":")
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source, sink):
        with contextlib.suppress(OSError):
            while chunk := source.recv(65_536):
                sink.sendall(chunk)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(plain):
        with (
            contextlib.suppress(OSError),
            context.wrap_socket(plain, server_side=True) as outer,
            socket.create_connection((host, int(port)), 10) as inner,
        ):
            back = threading.Thread(target=pump, args=(inner, outer), daemon=True)
            back.start()
            pump(outer, inner)
            back.join(10)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1], made.certificate
    listener.close()


def test_the_doorbell_rings_over_tls_and_believes_no_unknown_authority(tls_redis):
    port, certificate = tls_redis
    good = f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=required&ssl_ca_certs={certificate}"
    celery = make_celery(load_settings({"REDIS_URL": good}), "test")
    doorbell = Doorbell(celery, good)
    assert doorbell.answers()
    doorbell.ring(PREPARE, uuid.uuid4())
    assert doorbell.depth(PREPARE) == 1
    celery.close()
    unknown = f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=required"
    assert not Doorbell(make_celery(load_settings({"REDIS_URL": unknown}), "test"), unknown).answers()
