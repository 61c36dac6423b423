"""Addresses of the database and the queue may ask for TLS: then it is TLS, with whom it should be, or nothing."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import make_url, text

from services.analysis.database import make_engine
from services.analysis.doorbell import Doorbell, make_celery
from services.analysis.errors import DatabaseUnavailableError
from services.analysis.record import AnalysisRecord
from services.analysis.settings import load_settings
from services.analysis.states import PREPARE

#: What libpq sends before anything else when it wants TLS, and the answer "yes" (PostgreSQL protocol 3, SSLRequest).
SSL_REQUEST, SSL_YES = bytes.fromhex("0000000804d2162f"), b"S"


class _Certificate:
    """A self-made authority's certificate for localhost, and its key, in files."""

    def __init__(self, folder: Path) -> None:
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


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65_536):
            sink.sendall(chunk)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def tls_in_front_of(
    server: Callable[[], socket.socket], made: _Certificate, greet: Callable[[socket.socket], None] = lambda _: None
) -> Iterator[int]:
    """A port where a TLS end stands in front of a server that has none; `greet` comes before the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(plain: socket.socket) -> None:
        with contextlib.suppress(OSError):
            greet(plain)
            with context.wrap_socket(plain, server_side=True) as outer, server() as inner:
                back = threading.Thread(target=_pump, args=(inner, outer), daemon=True)
                back.start()
                _pump(outer, inner)
                back.join(10)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


@pytest.fixture
def made(tmp_path: Path) -> _Certificate:
    return _Certificate(tmp_path)


@pytest.fixture
def tls_redis(redis_url: str, made: _Certificate) -> Iterator[int]:
    """Port of a TLS end in front of the real Valkey."""
    host, _, port = redis_url.removeprefix("redis://").removesuffix("/0").partition(":")
    with tls_in_front_of(lambda: socket.create_connection((host, int(port)), 10), made) as tls_port:
        yield tls_port


@pytest.fixture
def tls_postgres(postgres_url: str, made: _Certificate) -> Iterator[str]:
    """URL, without TLS parameters, of a TLS end in front of the real PostgreSQL."""
    url = make_url(postgres_url)

    def server() -> socket.socket:
        inner = socket.socket(socket.AF_UNIX)
        inner.connect(f"{url.query['host']}/.s.PGSQL.5432")
        return inner

    def greet(plain: socket.socket) -> None:
        assert plain.recv(len(SSL_REQUEST)) == SSL_REQUEST
        plain.sendall(SSL_YES)

    with tls_in_front_of(server, made, greet) as port:
        yield f"postgresql://{url.username}@127.0.0.1:{port}/{url.database}"


def test_the_database_is_talked_to_over_tls_and_no_unknown_authority_is_believed(tls_postgres, made):
    engine = make_engine(f"{tls_postgres}?sslmode=verify-full&sslrootcert={made.certificate}")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM analysis")).scalar_one() == 0
        assert connection.connection.dbapi_connection.info.ssl_in_use
    engine.dispose()
    unknown = make_engine(f"{tls_postgres}?sslmode=verify-full&sslrootcert=system")
    with pytest.raises(DatabaseUnavailableError):
        AnalysisRecord(unknown).find(uuid.uuid4())
    unknown.dispose()


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


def test_the_doorbell_rings_over_tls_and_believes_no_unknown_authority(tls_redis, made):
    good = f"rediss://127.0.0.1:{tls_redis}/0?ssl_cert_reqs=required&ssl_ca_certs={made.certificate}"
    celery = make_celery(load_settings({"REDIS_URL": good}), "test")
    doorbell = Doorbell(celery, good)
    assert doorbell.answers()
    doorbell.ring(PREPARE, uuid.uuid4())
    assert doorbell.depth(PREPARE) == 1
    celery.close()
    unknown = f"rediss://127.0.0.1:{tls_redis}/0?ssl_cert_reqs=required"
    assert not Doorbell(make_celery(load_settings({"REDIS_URL": unknown}), "test"), unknown).answers()
