"""Addresses on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Collection
from pathlib import Path

LOOPBACK = "127.0.0.1"
#: Bytes a Unix socket's path may have: 104 on macOS and 108 on Linux, less the closing zero.
LONGEST_SOCKET_PATH = 103


def free_ports(count: int, besides: Collection[int] = ()) -> list[int]:
    """TCP ports of the loopback interface that are free now, all different, none of them in `besides`."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count + len(besides))]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        found = [int(probe.getsockname()[1]) for probe in probes]
    return [port for port in found if port not in besides][:count]


def why_not_listen(host: str, port: int) -> str | None:
    """Why nothing can listen on `host:port` now; None when it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return None


def socket_folder(preferred: Path, file_name: str, owner: int) -> Path:
    """A folder that only `owner` can enter, with a path short enough for the Unix socket `file_name` in it.

    That is `preferred`, or one in the temporary folder when the path of `preferred` is too long.

    Raises:
        OSError: the folder in the temporary folder belongs to somebody else.
    """
    folder = preferred
    if len(os.fsencode(preferred / file_name)) > LONGEST_SOCKET_PATH:
        digest = hashlib.sha256(os.fsencode(preferred)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"lesionlens-{digest}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), owner):
        raise PermissionError(f"{folder} belongs to somebody else")
    folder.chmod(0o700)
    if found.st_uid != owner:
        os.chown(folder, owner, -1)
    return folder
