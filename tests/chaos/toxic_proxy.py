"""A TCP proxy that can be slow, or swallow everything: what a network does to a network."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from tests.conftest import free_port

_CHUNK = 65_536


class ToxicProxy:
    """Listens on `port` and passes everything on to `upstream`, a port of this machine.

    `delay_s`: how much later each piece arrives. `black_hole`: nothing arrives, and nobody is told.
    """

    def __init__(self, upstream: int) -> None:
        self.port = free_port()
        self._upstream = upstream
        self._delay_s = 0.0
        self._passes = threading.Event()
        self._passes.set()
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def slow(self, delay_s: float) -> None:
        self._delay_s = delay_s

    def black_hole(self) -> None:
        self._passes.clear()

    def heal(self) -> None:
        self._delay_s = 0.0
        self._passes.set()

    def close(self) -> None:
        self._closed.set()
        self._passes.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._upstream), 5)
        except OSError:
            client.close()  # as refused as the upstream is
            return
        server.settimeout(None)
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._passes.wait()
                if self._delay_s:
                    time.sleep(self._delay_s)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
