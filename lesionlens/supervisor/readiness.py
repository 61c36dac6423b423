"""Does it answer yet? Each question is short and never raises."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterable

from lesionlens.supervisor.sockets import LOOPBACK

#: Seconds one question may take: `/readyz` itself asks the database, the doorbell and four networks.
_PATIENCE_S = 5.0


def listens(ports: Iterable[int]) -> bool:
    """Whether something accepts connections on all these ports of the loopback interface."""
    for port in ports:
        try:
            with socket.create_connection((LOOPBACK, port), _PATIENCE_S):
                pass
        except OSError:
            return False
    return True


def is_ready(host: str, port: int) -> bool:
    """Whether the gateway says that everything it stands on answers."""
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
