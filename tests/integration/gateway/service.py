"""A gateway behind a real socket, which can be told to have bad moments."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from werkzeug.serving import make_server


class Service:
    """The gateway as WSGI, with one bad moment after the other until they are used up.

    A bad moment is `(status, headers)`, answered in place of the gateway; `"lost"`, when the gateway does its work and
    the connection breaks before the answer; or `"page"`, a proxy's answer.
    """

    def __init__(self, app) -> None:
        self.app = app
        self.moments: deque[object] = deque()
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.accepted: Callable[[uuid.UUID], None] = lambda _: None
        self.url = ""

    def __call__(self, environ, start_response):
        names = ("HTTP_IDEMPOTENCY_KEY", "HTTP_AUTHORIZATION", "HTTP_PREFER")
        sent = {name: environ[name] for name in names if name in environ}
        self.seen.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], sent))
        moment = self.moments.popleft() if self.moments else None
        if isinstance(moment, tuple):
            status, headers = moment
            body = json.dumps({"type": "/problems/made-up", "title": "Made up", "status": status, "advice": "Wait."})
            start_response(f"{status} made up", [("Content-Type", "application/problem+json"), *headers.items()])
            return [body.encode()]
        if moment == "page":
            start_response("200 OK", [("Content-Type", "text/html")])
            return [b"<p>Sign in to the hotel's network</p>"]
        answered = {}

        def keep(status, headers, exc_info=None):
            answered.update(status=status, headers=headers)
            return lambda _: None

        body = b"".join(self.app(environ, keep))
        if environ["REQUEST_METHOD"] == "POST" and answered["status"].startswith("202"):
            self._tell(json.loads(body))
        if moment == "lost":
            # The server notices no more than the client: it would keep the connection open, and the client waiting.
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError
        start_response(answered["status"], answered["headers"])
        return [body]

    def _tell(self, body) -> None:
        for item in body.get("items", [body]):
            if item["state"] == "queued":
                self.accepted(uuid.UUID(item["id"]))


@contextmanager
def served(app) -> Iterator[Service]:
    """The service at `Service.url`, for as long as the block lasts."""
    service = Service(app)
    server = make_server("127.0.0.1", 0, service, threaded=True)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
