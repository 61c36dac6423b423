"""Ends what the supervisor started when the supervisor can no longer do so itself (killed, out of memory).

It runs as a process of its own and in a session of its own, so that what ends the supervisor spares it. The supervisor
tells it over standard input which process groups live (`+GROUP SIGNAL`) and which are gone (`-GROUP`). The end of that
input is the end of the supervisor: every group left is asked to stop with its signal, then killed.

It also inherits the folder's lock, which therefore is free only once everything has ended. Standard library only, and
not even all of that: it is started with `-I -S` and stays small.
"""

import contextlib
import os
import signal
import sys
import time

#: Seconds the orphans are given. Postgres writes its last checkpoint in this time.
GRACE_S = 5.0
_POLL_S = 0.05


def watch() -> dict[int, int]:
    """Follows the supervisor's account until it ends; the groups then alive, with their stop signals."""
    alive: dict[int, int] = {}
    for line in sys.stdin:
        words = line.split()
        group = int(words[0][1:])
        if line.startswith("+"):
            alive[group] = int(words[1])
        else:
            alive.pop(group, None)
    return alive


def end(alive: dict[int, int]) -> None:
    """Asks every group's leader to stop and kills the groups that are still there after `GRACE_S`."""
    for leader, number in alive.items():
        with contextlib.suppress(OSError):
            os.kill(leader, number)
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline and any(_exists(group) for group in alive):
        time.sleep(_POLL_S)
    for group in alive:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    for deaf in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(deaf, signal.SIG_IGN)
    end(watch())
