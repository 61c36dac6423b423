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
        self._late = threading.Event()

    def connect(self) -> None:
        """Opens the connection; with https, the host has to prove its name."""
        self.sock = socket.create_connection((self._target.address, self._target.port), timeout=self.timeout)
        self._end_if_late()
        if self._target.scheme == "https":
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self._target.host)
            self._end_if_late()

    def _end_if_late(self) -> None:
        # Who was told to hang up before there was anything to hang up on would otherwise never do so.
        if self._late.is_set():
            raise TimeoutError

    def hang_up(self) -> None:
        """Ends whatever it waits for, from another thread; and whatever it would wait for next."""
        self._late.set()
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
