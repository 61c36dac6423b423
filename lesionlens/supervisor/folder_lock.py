"""One supervisor for each data folder."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

#: Seconds to wait for the guard of a killed supervisor to end what that one left; the guard itself takes 5 at most.
ORPHANS_END_S = 15.0
_POLL_S = 0.1


class FolderInUseError(Exception):
    """Another supervisor runs out of this folder; the text says which."""


class FolderLock:
    """An exclusive lock on `folder`, which the operating system drops when its last holder ends, however it ends.

    The lock's file says who holds it. The guard inherits the lock, so it outlives a killed supervisor for as long as
    that one's processes are being ended.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._file = self._path.open("a+")

    @property
    def descriptor(self) -> int:
        """The locked file descriptor, for the guard to inherit."""
        return self._file.fileno()

    def acquire(self, address: str) -> None:
        """Takes the lock and notes `address` as where the service will be found.

        Raises:
            FolderInUseError: a living supervisor has it.
        """
        deadline = time.monotonic() + ORPHANS_END_S
        while not self._try():
            holder = self._holder()
            if _alive(holder.get("pid")) or time.monotonic() > deadline:
                raise FolderInUseError(
                    f"LesionLens already runs out of {self._path.parent} (process {holder.get('pid', 'unknown')},"
                    f" {holder.get('address', 'address unknown')}). Stop it first, or set DATA_DIR to another folder."
                )
            time.sleep(_POLL_S)
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "address": address}))
        self._file.flush()

    def release(self) -> None:
        """Gives the lock back. It is idempotent."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _try(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _holder(self) -> dict[str, object]:
        try:
            holder: dict[str, object] = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}  # The holder is about to write it.
        return holder


def _alive(pid: object) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
