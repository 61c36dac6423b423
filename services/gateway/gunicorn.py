"""gunicorn's settings for the gateway: one process, many threads, patient with people and not with attackers."""

from __future__ import annotations

import os
import signal
import socket
import struct
from types import FrameType
from typing import Any

from services.analysis.settings import load_settings

_settings = load_settings()

bind = f"{_settings.host}:{_settings.port}"
# gthread, and an end for those who send a byte now and then.
worker_class = "services.gateway.punctual.PunctualWorker"
# Threads wait for the network most of the time; more processes only where one is not enough (WEB_CONCURRENCY).
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
threads = _settings.gateway_threads
# The application is made in each worker: connections made before a fork would be shared and corrupted.
preload_app = False

#: Seconds a worker may be silent before it is killed; the heartbeat has a thread of its own.
timeout = 60
#: Seconds running requests have to end after SIGTERM. Long polls are woken at once, so uploads are what is waited for.
graceful_timeout = 8
#: Seconds an idle connection is kept: above the polling interval, so that a poll rarely needs a new one.
keepalive = 5
#: Connections at once; beyond it the kernel lets clients wait.
worker_connections = 512
backlog = 256

# A request line holds one id, a header at most a cookie.
limit_request_line = 2_048
limit_request_fields = 64
limit_request_field_size = 8_190

# The application logs requests by route; an access log would hold whole ids.
accesslog = None
errorlog = "-"
loglevel = "warning"
control_socket_disable = True

#: Seconds of silence after which a sender is given up, so that a few of them cannot hold every thread.
CLIENT_SILENCE_S = 15


def when_ready(server: Any) -> None:
    """Gives every connection a limit of silence: accepted sockets inherit it from the listening ones (Linux)."""
    silence = struct.pack("ll", CLIENT_SILENCE_S, 0)
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, silence)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, silence)


def post_worker_init(worker: Any) -> None:
    """On SIGTERM: first no longer ready and nobody kept waiting, then stop accepting, then finish."""

    def end(number: int, frame: FrameType | None) -> None:
        worker.wsgi.extensions["lesionlens"].drain()
        worker.handle_exit(number, frame)

    signal.signal(signal.SIGTERM, end)


def child_exit(_server: Any, worker: Any) -> None:
    """Forgets the gauges of a worker that ended."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
