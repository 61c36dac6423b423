"""The inside of a cell: `python -m services.preprocessor.cell.inside MODULE:FUNCTION STATUS_FD MEMORY_BYTES CPU_S`.

The process that was started never sees a file: it forks, the fork waits for one, and how that ended is told. So a fork
is there when the file comes. It has everything that the process had when it was forked, and nothing it learned stays.
What the libraries do once, on first use, is done before the first fork, by the module's `warm_up` where it has one:
140 ms for every file otherwise.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping

from services.analysis.allocator import close_holes, give_back_unused, keep_freed_memory
from services.preprocessor.cell.cell import ANSWER, REQUEST, STATUS

Function = Callable[[bytes, Mapping[str, object]], tuple[Mapping[str, object], bytes]]

#: Exit status of a fork in which the function raised.
RAISED = 1
#: Exit status of a fork that waited until standard input ended, which it does with whoever started all this.
NOTHING_CAME = 3

_READ_BYTES = 1 << 20
#: Bytes of a picture of 2 megapixels as Pillow holds it. Smaller ones come from the end of the heap, which grows in
#: steps that the kernel fills with pages of 2 MB (GLIBC_TUNABLES, see `cell`); in a mapping of its own a picture lies
#: across such pages and gets small ones. 1024 × 768 meets 1,900 page faults instead of 2,650, which is 2 ms.
_OWN_MAPPING_BYTES = 8 << 20
_HEAP_STEP_BYTES = 6 << 20
#: Option of prctl(2): what a fork started becomes this process's child when the fork ends, not the first process's.
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> None:
    """Serves files until standard input ends."""
    name, status_descriptor, memory_bytes, cpu_s = arguments
    module, _, attribute = name.partition(":")
    code = importlib.import_module(module)
    function: Function = getattr(code, attribute)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    getattr(code, "warm_up", _nothing)()
    _tidy()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    status_writer = int(status_descriptor)
    os.write(status_writer, STATUS.pack(0))  # loaded
    while True:
        child = os.fork()
        if child == 0:
            os.close(status_writer)
            _serve_one(function, int(memory_bytes), int(cpu_s))
        _, status = os.waitpid(child, 0)
        _end_what_it_left()
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == NOTHING_CAME:
            return
        os.write(status_writer, STATUS.pack(status))


def _nothing() -> None:
    pass


def _tidy() -> None:
    """Leaves little that a fork would copy page by page as soon as it writes there: 15 ms for a photograph otherwise.

    Objects that stay are taken out of the garbage collector's sight, which would write to each of them, and memory that
    the warm-up left over goes back to the operating system: a fork is quicker given new pages than copies of old ones,
    and quickest given many in a row.
    """
    gc.collect()
    gc.freeze()
    give_back_unused()
    keep_freed_memory(own_mapping_bytes=_OWN_MAPPING_BYTES, step_bytes=_HEAP_STEP_BYTES)
    close_holes()


def _end_what_it_left() -> None:
    """Ends what the fork had started, in a session of its own, too: nothing of one file is there for the next."""
    children = f"/proc/self/task/{os.getpid()}/children"
    with contextlib.suppress(ChildProcessError):  # there are none left
        while True:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                with open(children, encoding="ascii") as listed:  # noqa: PTH123 - pathlib is not worth its import here
                    for left in listed.read().split():
                        os.kill(int(left), signal.SIGKILL)
                os.waitpid(-1, 0)


def _exactly(count: int) -> bytes | None:
    """So many bytes of standard input and none beyond them, which are the next file's; None when it has ended."""
    content = bytearray()
    while len(content) < count:
        part = os.read(0, min(count - len(content), _READ_BYTES))
        if not part:
            return None
        content += part
    return bytes(content)


def _serve_one(function: Function, memory_bytes: int, cpu_s: int) -> None:
    """Waits for a file, answers, and never returns: whatever happens, the fork ends here."""
    status = RAISED
    with contextlib.suppress(BaseException):
        head = _exactly(REQUEST.size)
        if head is None:
            os._exit(NOTHING_CAME)
        length, options_length = REQUEST.unpack(head)
        options, data = _exactly(options_length), _exactly(length)
        if options is None or data is None:
            os._exit(NOTHING_CAME)
        _limit(memory_bytes, cpu_s)
        told, body = function(data, json.loads(options))
        answer = json.dumps(told).encode()
        with os.fdopen(1, "wb", closefd=False) as output:
            output.write(ANSWER.pack(len(answer), len(body)) + answer)
            output.write(body)
        status = 0
    os._exit(status)


def _limit(memory_bytes: int, cpu_s: int) -> None:
    os.close(0)
    limits = {
        # Private memory, not address space: libraries reserve much of that and never touch it.
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_CPU: cpu_s,
        # No file is written, and none with somebody's photograph in it by a crash.
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        _, ceiling = resource.getrlimit(kind)
        wanted = limit if ceiling == resource.RLIM_INFINITY else min(limit, ceiling)
        resource.setrlimit(kind, (wanted, wanted))


if __name__ == "__main__":
    main(sys.argv[1:])
