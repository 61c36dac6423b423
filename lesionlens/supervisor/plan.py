"""The composition root of `lesionlens run`: which programs run, in which order, with which settings."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import lesionlens
from lesionlens.supervisor.postgres import EmbeddedPostgres
from lesionlens.supervisor.program import Program
from lesionlens.supervisor.readiness import is_ready, listens
from lesionlens.supervisor.sockets import LOOPBACK, free_ports
from lesionlens.supervisor.valkey import EmbeddedValkey
from services.analysis.results import NETWORKS
from services.analysis.settings import SETTINGS_FILES, Settings

#: The checkout (or the folder of site-packages) that the packages are imported from.
ROOT = Path(lesionlens.__file__).resolve().parents[1]
#: Variables that belong to the `make` that may have started us, and would speak to any `make` below us.
_MAKES_OWN = frozenset({"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"})
#: Addresses that mean "every interface": from here the gateway is asked over the loopback one.
_EVERYWHERE = {"": LOOPBACK, "0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - looked up, not listened on # nosec B104


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: the servers, then the migration to its end, then workers and gateway.

    `create` sets up the embedded database (None when `DATABASE_URL` names another one). `host` and `port` are where the
    gateway is asked from this machine.
    """

    servers: tuple[Program, ...]
    migration: Program
    workers: tuple[Program, ...]
    gateway: Program
    create: Callable[[Callable[[str], None]], None] | None
    host: str
    port: int
    run_folder: Path

    @property
    def programs(self) -> Iterator[Program]:
        """All that keep running."""
        yield from (*self.servers, *self.workers, self.gateway)

    @property
    def names(self) -> list[str]:
        """Everything that may write a line."""
        return [*(program.name for program in self.programs), self.migration.name]

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{'localhost' if self.host == LOOPBACK else _bracketed(self.host)}:{self.port}"


def make_plan(settings: Settings, data_folder: Path, environ: Mapping[str, str]) -> Plan:
    """Decides what is embedded: whatever the settings do not name. `data_folder` exists."""
    run_folder = data_folder / "run"
    run_folder.mkdir(exist_ok=True)
    metrics_folder = _empty_folder(run_folder / "metrics")
    environment = {name: value for name, value in environ.items() if name not in _MAKES_OWN} | {
        # Everything runs in ROOT, and is told what a path meant where the command was called.
        **{name: str(Path(environ[name]).resolve()) for name in SETTINGS_FILES if environ.get(name)},
        "PYTHONUNBUFFERED": "1",
        # Every thread may get a heap of its own, and keeps what it once held; two are enough for what allocates here.
        "MALLOC_ARENA_MAX": "2",
        "HOST": settings.host,
        "PORT": str(settings.port),
        "DATA_DIR": str(data_folder),
        "MODELS_DIR": str(models_folder(settings, environ)),
        "BLOB_STORE_URL": settings.blob_store_url or _private_folder(data_folder / "blobs").as_uri(),
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "PRECISION": settings.precision,
        "CALIBRATED_DIR": str(Path(settings.calibrated_dir or data_folder / "calibrated").resolve()),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics_folder),
    }
    if not settings.secret_key:
        environment["SECRET_KEY"] = _kept_secret(data_folder / "secret_key")
    missing = [name for name, address in settings.serving_addresses().items() if not address]
    # The gateway's port is free as well until the gateway, which starts last, takes it.
    valkey_port, *network_ports = free_ports(1 + len(missing), besides=(settings.port,))

    servers: list[Program] = []
    postgres = None
    if not settings.database_url:
        postgres = EmbeddedPostgres(data_folder / "postgres", run_folder)
        environment["DATABASE_URL"] = postgres.url
        servers.append(postgres.program(environment))
    if not settings.redis_url:
        valkey = EmbeddedValkey(valkey_port, run_folder)
        environment["REDIS_URL"] = valkey.url
        servers.append(valkey.program(environment))
    if missing:
        ports = dict(zip(missing, network_ports, strict=True))
        for name, port in ports.items():
            environment[f"{name.upper()}_SERVING_URL"] = f"{LOOPBACK}:{port}"
        servers.append(_model_server(ports, environment))
    host = _EVERYWHERE.get(settings.host, settings.host)
    return Plan(
        servers=tuple(servers),
        migration=Program("migrate", _python("lesionlens.migrate"), environment),
        workers=_workers(environment),
        gateway=Program(
            "gateway",
            _python(
                "gunicorn",
                "--config",
                "python:services.gateway.gunicorn",
                "--graceful-timeout",
                "1",
                "services.gateway.wsgi:app()",
            ),
            environment,
            answers=partial(is_ready, host, settings.port),
            stop_within_s=2.0,
        ),
        create=postgres.create if postgres else None,
        host=host,
        port=settings.port,
        run_folder=run_folder,
    )


def models_folder(settings: Settings, environ: Mapping[str, str]) -> Path:
    """The setting; without one the checkout's own, wherever the command is called."""
    return (settings.models_dir if "MODELS_DIR" in environ else ROOT / settings.models_dir).resolve()


def _model_server(ports: Mapping[str, int], environment: Mapping[str, str]) -> Program:
    endpoints = [word for name in NETWORKS if name in ports for word in ("--endpoint", f"{name}={ports[name]}")]
    # What `lesionlens models` has decided; networks elsewhere come without, and the newest of each is served.
    config = Path(environment["MODELS_DIR"]).parent / "tensorflow-serving"
    chosen = ("--config", str(config)) if config.is_dir() else ()
    return Program(
        "networks",
        _python("serving.embedded", "--models", environment["MODELS_DIR"], *chosen, *endpoints),
        environment,
        answers=partial(listens, tuple(ports.values())),
        stop_within_s=0.8,
    )


def _workers(environment: Mapping[str, str]) -> tuple[Program, ...]:
    celery = partial(_python, "celery", "--quiet", "-A")
    if os.geteuid() == 0:
        # Celery warns because messages could carry pickles; ours are JSON with one id (services/analysis/doorbell.py).
        environment = {**environment, "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
    return (
        Program(
            "preprocessor",
            celery(
                "services.preprocessor.worker", "worker", "--queues", "preprocess", "--concurrency", "1",
                "--hostname", "preprocessor@%h", "--loglevel", "INFO",
                "--without-gossip", "--without-mingle", "--without-heartbeat",
            ),
            environment,
            stop_within_s=2.5,
        ),
        Program("stacker", _python("services.stacker"), environment, stop_within_s=2.5),
        Program(
            "beat",
            celery("services.stacker.beat", "beat", "--loglevel", "WARNING", "--pidfile="),
            environment,
            stop_within_s=0.8,
        ),
        Program("webhooks", _python("services.webhooks"), environment, stop_within_s=2.5),
    )  # fmt: skip


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def _empty_folder(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    return folder


def _private_folder(folder: Path) -> Path:
    """For this account alone: earlier releases let every other one list the photographs and read them."""
    folder.mkdir(mode=0o700, exist_ok=True)
    # Elsewhere its owner decides (a link to another account's folder), or the file system, which may know no modes.
    with suppress(PermissionError):
        folder.chmod(0o700)
    return folder


def _kept_secret(file: Path) -> str:
    """The key that signs form tokens, made once: a page opened before a restart still works after it."""
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as new:
            new.write(secrets.token_urlsafe(32))
    return file.read_text()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
