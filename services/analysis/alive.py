"""Is the process of this container well? `python -m services.analysis.alive worker --children --database`.

For health checks of containers, so it asks once, and imports only what it needs: on a busy host the imports of settings
and database would take longer than the check is given. Exit status 0: well; 1: not, with the reason on standard error.

It looks for a process with the given word on its command line. `--children` asks for a forked child of it as well (a
worker without one consumes nothing), `--database` for an answer from `DATABASE_URL`, `--url` for a 200 from an address.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Seconds an address or the database has to answer in; below the time that health checks are given.
_ANSWER_WITHIN_S = 5
#: States of /proc/PID/stat in which a process does nothing any more: zombie, dead, stopped.
_LIFELESS = frozenset("ZXxTt")


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    state: str
    words: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything asked for holds, else 1."""
    parser = argparse.ArgumentParser(prog="python -m services.analysis.alive")
    parser.add_argument("word", help="a word on the command line of the process, such as `worker` or `beat`")
    parser.add_argument("--children", action="store_true", help="it must have a forked child")
    parser.add_argument("--database", action="store_true", help="DATABASE_URL must answer")
    parser.add_argument("--url", help="this address must answer 200")
    asked = parser.parse_args(arguments)
    why_not = (
        _processes(asked.word, children=asked.children)
        or (_database() if asked.database else None)
        or (_address(asked.url) if asked.url else None)
    )
    if why_not:
        sys.stderr.write(f"{why_not}\n")
        return 1
    return 0


def _processes(word: str, *, children: bool, proc: Path = Path("/proc")) -> str | None:
    """Why the processes are not as they should be; None when they are."""
    found = {
        process.pid: process
        for process in _read(proc)
        # A path counts by its last part (`/opt/venv/bin/gunicorn`); this process names the word, too.
        if process.pid != os.getpid() and word in {part.rpartition("/")[2] for part in process.words}
    }
    # An init process in front of ours (`docker run --init`) carries the same words.
    ours = {pid: process for pid, process in found.items() if "--" not in process.words[:2]}
    living = [process for process in ours.values() if process.state not in _LIFELESS]
    if not living:
        return f"no process with {word!r} on its command line is running"
    if children and not any(process.parent in ours for process in living):
        return f"{word!r} has no child process"
    return None


def _read(proc: Path) -> list[_Process]:
    processes = []
    for folder in proc.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            # After the name in parentheses, which may itself hold spaces: state, parent, …
            state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        processes.append(_Process(int(folder.name), int(parent), state, tuple(word for word in words if word)))
    return processes


def _database() -> str | None:
    import psycopg2  # type: ignore[import-untyped]

    try:
        psycopg2.connect(_database_url(), connect_timeout=_ANSWER_WITHIN_S).close()
    except (psycopg2.Error, OSError) as error:
        return f"the database does not answer: {error}"
    return None


def _database_url() -> str:
    file = os.environ.get("DATABASE_URL_FILE")
    return os.environ.get("DATABASE_URL") or (Path(file).read_text().strip() if file else "")


def _address(url: str) -> str | None:
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_WITHIN_S):  # noqa: S310 - the operator's own address # nosec B310
            return None
    except OSError as error:  # an HTTPError is one, too
        return f"{url}: {error}"


if __name__ == "__main__":
    sys.exit(main())
