"""`make fuzz`: mutated files through the functions that run in the cells of gateway and preprocessor.

Every file is read as the gateway reads it (header, metadata cut or pixels decoded), as the preprocessor decodes it, and
every tenth goes on to the networks' tensor. A finding is a crash, an exception, more than 2 s of processor time, or
more than 512 MB. Findings are written to artefacts/fuzz; exit status 1.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import resource
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2

from services.gateway import confined as gateway
from services.preprocessor import confined as preprocessor
from services.preprocessor.cell.cell import MEMORY_BYTES
from services.preprocessor.imaging import Rejection
from services.preprocessor.imaging.decode import decode
from tests.fuzz.mutate import mutated, seeds

#: Seconds of processor time for one file in all its ways: wall clock would measure the machine's other work.
MAX_CPU_S = 2.0
#: Files in one process: what a crash costs, and after how many memory is counted anew.
SHARD = 250
#: Every how many files the whole way to the tensor is gone.
WHOLE_WAY = 10

_STATE = struct.Struct("<qqddq")  # number, refused, slowest, total, slowest's number
FOUND_FOLDER = Path("artefacts/fuzz")


@dataclass
class Tally:
    files: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    slowest: int = 0
    cpu_s: float = 0.0
    memory_bytes: int = 0
    findings: list[tuple[int, str]] = field(default_factory=list)


def read_all_ways(data: bytes, *, whole_way: bool) -> bool:
    """Whether the file is refused. Raises what a cell would have to survive."""
    head, _ = gateway.inside(data, {"do": "clean"})
    outcome = decode(data)
    if whole_way:
        preprocessor.inside(data, {"force": True})
    return "rejection" in head or isinstance(outcome, Rejection)


def _shard(seed: int, first: int, last: int, state: mmap.mmap) -> None:
    """In a child: files `first` to `last`; how far it came stands in `state`, wherever it ends."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    refused, slowest, total, slowest_number = 0, 0.0, 0.0, first
    for number in range(first, last):
        state[: _STATE.size] = _STATE.pack(number, refused, slowest, total, slowest_number)
        _, data = mutated(seed, number)
        began = time.process_time()
        # Its default action ends the process, also in the middle of a C function.
        signal.setitimer(signal.ITIMER_PROF, MAX_CPU_S)
        refused += read_all_ways(data, whole_way=number % WHOLE_WAY == 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        took = time.process_time() - began
        total += took
        if took > slowest:
            slowest, slowest_number = took, number
    state[: _STATE.size] = _STATE.pack(last, refused, slowest, total, slowest_number)


def _run_shard(seed: int, first: int, last: int, tally: Tally) -> int:
    """Runs a child; the number to go on with."""
    state = mmap.mmap(-1, _STATE.size)
    child = os.fork()
    if child == 0:
        status = 0
        # Libraries complain about every damaged file; what is wanted is what they let through.
        null, told = os.open(os.devnull, os.O_WRONLY), os.dup(2)
        try:
            os.dup2(null, 2)
            _shard(seed, first, last, state)
        except BaseException:  # noqa: BLE001 - whatever it is, it is a finding
            os.write(told, traceback.format_exc().encode())
            status = 1
        os._exit(status)
    _, status, usage = os.wait4(child, 0)
    number, refused, slowest, total, slowest_number = _STATE.unpack(state[: _STATE.size])
    state.close()
    memory = usage.ru_maxrss * 1024
    tally.refused += refused
    tally.cpu_s += total
    tally.memory_bytes = max(tally.memory_bytes, memory)
    if slowest > tally.slowest_s:
        tally.slowest_s, tally.slowest = slowest, slowest_number
    if memory > MEMORY_BYTES:
        tally.findings.append((slowest_number, f"memory {memory >> 20} MB in files {first} to {last}"))
    if status == 0:
        tally.files += last - first
        return last
    signalled = os.WIFSIGNALED(status)
    why = signal.Signals(os.WTERMSIG(status)).name if signalled else "exception"
    tally.findings.append((number, f"more than {MAX_CPU_S} s" if why == "SIGPROF" else why))
    tally.files += number + 1 - first
    return number + 1


def fuzz(seed: int, files: int) -> Tally:
    """All files of a seed."""
    cv2.setNumThreads(1)
    seeds()  # made once, before the forks
    tally, number = Tally(), 0
    while number < files:
        number = _run_shard(seed, number, min(number + SHARD, files), tally)
    return tally


def main() -> int:
    """Fuzzes and prints one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    asked = parser.parse_args()
    sys.stdout.write(f"seed {asked.seed}\n")
    sys.stdout.flush()
    began = time.monotonic()
    tally = fuzz(asked.seed, asked.files)
    rows = [
        ("files", f"{tally.files:,}"),
        ("kinds of seed", str(len(seeds()))),
        ("refused", f"{tally.refused:,}"),
        ("crashes, hangs, exceptions", str(len(tally.findings))),
        ("slowest (limit 2 s)", f"{tally.slowest_s:.2f} s of processor time, file {tally.slowest}"),
        ("most memory (limit 512 MB)", f"{tally.memory_bytes >> 20} MB"),
        ("processor time", f"{tally.cpu_s:.0f} s"),
        ("wall clock", f"{time.monotonic() - began:.0f} s"),
    ]
    sys.stdout.writelines(f"| {name:28} | {value:44} |\n" for name, value in rows)
    for number, why in tally.findings:
        name, data = mutated(asked.seed, number)
        FOUND_FOLDER.mkdir(parents=True, exist_ok=True)
        file = FOUND_FOLDER / f"{asked.seed}-{number}"
        file.write_bytes(data)
        sys.stdout.write(f"{file}: {why}, from “{name}”\n")
    kinds = Counter(why for _, why in tally.findings)
    sys.stdout.write(f"{dict(kinds)}\n" if kinds else "nothing found\n")
    return int(bool(tally.findings))


if __name__ == "__main__":
    sys.exit(main())
