"""Sends one message to an address that was checked: no redirect is followed, no proxy asked, no answer read."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping

from services.webhooks.addresses import Target


class _Pinned(http.client.HTTPConnection):
    """Connects to the address that was checked, whatever its name leads to by now."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        super().__init__(target.host, target.port, timeout=timeout_s)
        self._target = target

    def connect(self) -> None:
        """Opens the connection; with https, the host has to prove its name."""
        plain = socket.create_connection((self._target.address, self._target.port), timeout=self.timeout)
        if self._target.scheme == "http":
            self.sock = plain
            return
        try:
            self.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=self._target.host)
        except OSError:
            plain.close()
            raise

    def hang_up(self) -> None:
        """Ends whatever it waits for, from another thread."""
        with contextlib.suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)


def post(target: Target, body: bytes, headers: Mapping[str, str], timeout_s: float) -> int:
    """The status the receiver answered with; what else it says is not read.

    A receiver that answers one byte at a time is hung up on after `timeout_s` seconds in all.

    Raises:
        OSError, http.client.HTTPException: there is no answer (not reached, refused, no valid certificate, too slow).
    """
    connection = _Pinned(target, timeout_s)
    deadline = threading.Timer(timeout_s, connection.hang_up)
    deadline.daemon = True
    deadline.start()
    try:
        connection.request("POST", target.path, body, dict(headers))
        return connection.getresponse().status
    finally:
        deadline.cancel()
        connection.close()
