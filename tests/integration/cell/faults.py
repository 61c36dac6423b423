"""What a decoder could do wrong, to be run in a cell."""

from __future__ import annotations

import ctypes
import os
import time


def inside(data, options):
    """Does what the file says."""
    return FAULTS[data.decode()]()


def crash():
    ctypes.string_at(0)


def swell():
    return {}, bytes(2 << 30)


def spin():
    while True:
        pass


def hang():
    time.sleep(3600)


def chatter():
    os.write(1, b"\xff" * 100_000)
    os._exit(0)


def linger():
    """Leaves somebody who waits for the next photograph, out of reach of its own group and parent."""
    told, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(tell, str(os.getpid()).encode())
        time.sleep(3600)
    return {"pid": int(os.read(told, 20))}, b""


def steal():
    wanted = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "HOME", "USER")
    return {"found": [name for name in wanted if name in os.environ]}, b""


def write():
    with open("/tmp/ll-cell-was-here", "wb") as file:  # noqa: PTH123
        file.write(b"photograph")
    return {}, b""


def remember():
    """State of one file is not there for the next."""
    global memory  # noqa: PLW0603
    memory += 1
    return {"memory": memory}, b""


def ask():
    return {"warmed up": warmed_up}, b""


def warm_up():
    """Done once, before the first fork."""
    global warmed_up  # noqa: PLW0603
    warmed_up += 1


warmed_up = 0
memory = 0
FAULTS = {
    fault.__name__: fault for fault in (crash, swell, spin, hang, chatter, linger, steal, write, remember, ask)
} | {
    "fine": lambda: ({"fine": True}, b"pixels"),
    "raise": lambda: 1 / 0,
}
