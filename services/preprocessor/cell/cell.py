"""The outside of a cell: starts it, hands files in, takes answers out, and believes nothing that comes out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import services
from services.analysis.errors import LesionLensError

#: Bytes of private memory one file may use. Measured on 2 cores with Pillow 13: 59 megapixels as PNG with transparency
#: take 468 MB with the libraries, as TIFF 483 MB, as progressive JPEG 397 MB; a 24-megapixel WebP 426 MB.
MEMORY_BYTES = 512 << 20
#: Seconds of processor time one file may use: those 59 megapixels take 1.4–2.5 s, so 8 s is a loop or an attack.
CPU_S = 8
#: Seconds on the clock, on a machine that has other work; below the soft limit of the preprocessor's task (12 s).
DEADLINE_S = 11.0
#: Seconds the cell may take to load its libraries: half a second on an idle machine, many on a busy one.
START_WITHIN_S = 60.0
#: Seconds a fork may take to end after its answer, for which nobody waited; it takes four milliseconds.
END_WITHIN_S = 2.0
#: Bytes the pipe to the cell may hold where the system allows it: a photograph is written in a few steps, not in fifty.
_PIPE_BYTES = 1 << 20
#: Bytes an answer may have: 60 megapixels as a hardly compressed PNG.
MAX_ANSWER_BYTES = 256 << 20

#: Length of the file, length of the options.
REQUEST = struct.Struct("<QI")
#: Length of the JSON object in front of the bytes of an answer, and of those bytes.
ANSWER = struct.Struct("<IQ")
#: How the fork ended, as `os.waitpid` tells it.
STATUS = struct.Struct("<i")

_CHUNK_BYTES = 1 << 16


class CellTimeoutError(LesionLensError):
    """A file was not decoded in time on the clock; on a machine that is less busy it may be."""

    status = 503
    problem = "decoder-busy"
    title = "Reading this photograph took too long"
    advice = "Try again in a moment, or send it as a JPEG of at most 12 megapixels."
    retry_after_s = 10


@dataclass(frozen=True, slots=True)
class CellAnswer:
    """What the function in the cell gave: a JSON object and bytes. Both are claims of a process that is not trusted."""

    head: Mapping[str, Any]
    body: bytes


@dataclass(frozen=True, slots=True)
class CellDeath:
    """The fork ended without an answer. `why`: `signal 11`, `processor time`, `status 1` or `answer`."""

    why: str


class Cell:
    """Runs one function, `module:name`, on files. Threads take turns; every process has its own."""

    def __init__(
        self,
        function: str,
        *,
        memory_bytes: int = MEMORY_BYTES,
        cpu_s: int = CPU_S,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._function = function
        self._memory_bytes = memory_bytes
        self._cpu_s = cpu_s
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._status_reader = -1
        self._owner = 0
        self._loaded = False
        #: The fork that answered last has not been heard to have ended.
        self._answered = False

    def run(self, data: bytes, options: Mapping[str, Any] | None = None) -> CellAnswer | CellDeath:
        """The function's answer to a file, or how it died of it.

        Raises:
            CellTimeoutError: no answer within the deadline on the clock. The cell is made anew.
        """
        given = json.dumps(dict(options or {})).encode()
        request = REQUEST.pack(len(data), len(given)) + given
        with self._lock:
            if self._answered and not self._has_ended_since():
                self._end()
            process = self._started()
            try:
                self._wait_until_loaded(process)
                output, status = self._exchange(process, request, data)
            except BaseException:
                # Whatever interrupted it (a time limit of the worker, too): what runs in there must not go on.
                self._end()
                raise
            if status is None:
                self._end()
                return CellDeath("the cell")
        return _answer(output) if status == 0 else CellDeath(_cause(status))

    def start(self) -> None:
        """Starts the cell's process and does not wait for it, so that the first file need not wait either."""
        with self._lock:
            self._started()

    def close(self) -> None:
        """Ends the cell's process; the next file starts another one."""
        with self._lock:
            self._end()

    @property
    def pid(self) -> int | None:
        """The process that waits for files, if it was started."""
        return None if self._process is None else self._process.pid

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner != os.getpid():
            self._process = None  # it belongs to the process that this one was forked from
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._process is None:
            self._process = self._start()
        return self._process

    def _start(self) -> subprocess.Popen[bytes]:
        self._status_reader, status_writer = os.pipe()
        command = [
            sys.executable, "-m", "services.preprocessor.cell.inside",
            self._function, str(status_writer), str(self._memory_bytes), str(self._cpu_s),
        ]  # fmt: skip
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_bare_environment(),
                pass_fds=(status_writer,),
                start_new_session=True,
                cwd="/",
            )
        finally:
            os.close(status_writer)
        self._owner, self._loaded, self._answered = os.getpid(), False, False
        if process.stdin is not None and process.stdout is not None:
            os.set_blocking(process.stdin.fileno(), False)
            with contextlib.suppress(OSError, AttributeError):
                fcntl.fcntl(process.stdin.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            os.set_blocking(process.stdout.fileno(), False)
        return process

    def _wait_until_loaded(self, process: subprocess.Popen[bytes]) -> None:
        if self._loaded:
            return
        with selectors.DefaultSelector() as ready:
            ready.register(self._status_reader, selectors.EVENT_READ)
            if not ready.select(START_WITHIN_S) or len(os.read(self._status_reader, STATUS.size)) < STATUS.size:
                raise CellTimeoutError(f"The decoder's process did not start: {process.poll()}.")
        self._loaded = True

    def _has_ended_since(self) -> bool:
        """Whether the fork that answered has ended, so that the next file meets another one; and said nothing more."""
        process, self._answered = self._process, False
        if process is None or process.stdout is None:
            return False
        with selectors.DefaultSelector() as ready:
            ready.register(self._status_reader, selectors.EVENT_READ)
            if not ready.select(END_WITHIN_S) or len(os.read(self._status_reader, STATUS.size)) < STATUS.size:
                return False
        return not _read_some(process.stdout.fileno(), bytearray())

    def _exchange(self, process: subprocess.Popen[bytes], request: bytes, data: bytes) -> tuple[bytes, int | None]:
        """Hands the file in while it takes the answer out; the status is None when the cell itself ended.

        A complete answer is taken at once: the end of the fork, which gives its memory back, is not waited for.
        """
        assert process.stdin is not None
        assert process.stdout is not None
        end = time.monotonic() + self._deadline_s
        waiting = [memoryview(request), memoryview(data)]
        output = bytearray()
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdin, selectors.EVENT_WRITE)
            ready.register(process.stdout, selectors.EVENT_READ)
            ready.register(self._status_reader, selectors.EVENT_READ)
            while True:
                left_s = end - time.monotonic()
                if left_s <= 0:
                    raise CellTimeoutError("The photograph could not be read in time.")
                for key, _ in ready.select(left_s):
                    if key.fileobj is process.stdin:
                        _write_some(process.stdin.fileno(), waiting)
                        if not waiting:
                            ready.unregister(process.stdin)
                    elif key.fileobj is process.stdout:
                        if not _read_some(process.stdout.fileno(), output):
                            ready.unregister(process.stdout)
                    else:
                        told = os.read(self._status_reader, STATUS.size)
                        # The fork is gone, so all that it said lies in the pipe by now.
                        while _read_some(process.stdout.fileno(), output):
                            pass
                        return bytes(output), STATUS.unpack(told)[0] if len(told) == STATUS.size else None
                if len(output) > MAX_ANSWER_BYTES:
                    return b"", None
                if not waiting and _is_complete(output):
                    self._answered = True
                    return bytes(output), 0

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        # Its own session: the group is the cell and the fork that may be running.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        os.close(self._status_reader)

    def __del__(self) -> None:
        """What nobody asks any more does not live on."""
        self._end()


def _bare_environment() -> dict[str, str]:
    """No address, no password, no name: what is not there cannot be given away by a decoder that was taken over."""
    root = str(Path(next(iter(services.__path__))).parent)
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH", "")])]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
        # One file, one thread: a pool of threads would reserve memory for each core, and must not be forked.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
        # Large pages where the kernel gives them to those that ask: half as many page faults for a photograph.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }


def _write_some(descriptor: int, waiting: list[memoryview]) -> None:
    try:
        written = os.write(descriptor, waiting[0][: 1 << 20])
    except BlockingIOError:
        return
    except BrokenPipeError:
        waiting.clear()  # the cell has ended, and says so at the other pipe
        return
    waiting[0] = waiting[0][written:]
    while waiting and not waiting[0]:
        waiting.pop(0)


def _read_some(descriptor: int, output: bytearray) -> bool:
    """Whether there was anything."""
    try:
        chunk = os.read(descriptor, _CHUNK_BYTES)
    except BlockingIOError:
        return False
    output += chunk
    return bool(chunk)


def _cause(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "processor time" if number in (signal.SIGXCPU, signal.SIGKILL) else f"signal {number}"
    return f"status {os.waitstatus_to_exitcode(status)}"


def _is_complete(output: bytearray) -> bool:
    return len(output) >= ANSWER.size and len(output) == ANSWER.size + sum(ANSWER.unpack_from(output))


def _answer(output: bytes) -> CellAnswer | CellDeath:
    try:
        length, rest = ANSWER.unpack_from(output)
        if len(output) != ANSWER.size + length + rest:
            return CellDeath("answer")
        head = json.loads(output[ANSWER.size : ANSWER.size + length])
    except (struct.error, ValueError, RecursionError):
        return CellDeath("answer")
    if not isinstance(head, dict):
        return CellDeath("answer")
    return CellAnswer(head, output[ANSWER.size + length :])
