"""A Docker engine of our own: started for these tests, with its data apart, ended after them.

`python tests/compose/engine.py` says whether this machine can run one: it starts it, makes the stand-in for Python and
has a container reach the package index. Exit status 1, with the reason, where it cannot.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAND_INS = Path(__file__).parent / "stand_ins"
#: Where the images are kept between runs.
CACHE = Path(os.environ.get("LESIONLENS_COMPOSE_CACHE", Path(__file__).resolve().parents[2] / ".cache" / "compose"))
#: Seconds the engine may take to answer.
_START_S = 90.0
#: Where the stand-ins' Debian comes from; debootstrap's own default.
_MIRROR = "http://deb.debian.org/debian"
#: Debian 12: the release whose Python is 3.11, as in the image that it stands in for.
_RELEASE = "bookworm"
_NEEDED = {"dockerd": "docker.io", "docker": "docker.io", "iptables": "iptables", "debootstrap": "debootstrap"}
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class Engine:
    """dockerd, its command line, and compose."""

    def __init__(self, data: Path) -> None:
        """`data` keeps images between runs, so that only the first one is slow."""
        self._data = data
        self._run = Path(tempfile.mkdtemp(prefix="lesionlens-engine-"))
        self._socket = f"unix://{self._run}/docker.sock"
        self._process: subprocess.Popen[bytes] | None = None
        beside = Path(sys.executable).with_name("docker-compose")
        self._compose = str(beside) if beside.exists() else shutil.which("docker-compose")

    def start(self) -> None:
        """Start it and wait until it answers."""
        if os.geteuid() != 0:
            raise RuntimeError("the engine needs root: sudo make test-compose")
        if missing := sorted({package for tool, package in _NEEDED.items() if shutil.which(tool) is None}):
            raise RuntimeError(f"missing: apt-get install --no-install-recommends {' '.join(missing)}")
        if self._compose is None:
            raise RuntimeError("missing: docker-compose, which requirements/deploy.txt installs")
        if Path("/var/run/docker.pid").exists():
            raise RuntimeError("a Docker engine runs here; a second one would rewrite its firewall rules")
        self._data.mkdir(parents=True, exist_ok=True)
        with (self._run / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *("dockerd", "--host", self._socket, "--pidfile", str(self._run / "pid")),
                    *("--data-root", str(self._data.resolve() / "engine"), "--exec-root", str(self._run / "exec")),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + _START_S
        while self._ask("docker", "info").returncode:
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"dockerd does not start:\n{(self._run / 'log').read_text()[-3000:]}")
            time.sleep(0.5)

    def stop(self) -> None:
        """End it; nothing of it is left but its images."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
        shutil.rmtree(self._run, ignore_errors=True)

    def docker(self, *words: str) -> str:
        """Standard output of `docker …`; raises with what it said when it fails."""
        return self._output("docker", *words)

    def save(self, *images: str) -> subprocess.Popen[bytes]:
        """A running `docker save`, whose standard output is the images."""
        return subprocess.Popen(["docker", "--host", self._socket, "save", *images], stdout=subprocess.PIPE)

    def compose(self, folder: Path, *words: str) -> str:
        """Standard output of `docker compose …` in `folder`."""
        assert self._compose is not None
        return self._output(self._compose, *words, folder=folder)

    def shell(self, folder: Path, script: str) -> str:
        """Standard output of a script of the documentation, run in `folder` and ended by its first failure."""
        assert self._compose is not None
        # Where `docker compose` is a command of its own, as these tests have it.
        docker = f'docker() {{ [ "$1" = compose ] || return 2; shift; {shlex.quote(self._compose)} "$@"; }}\n'
        return self._output("sh", "-euc", docker + script, folder=folder)

    def bootstrap(self) -> None:
        """Make the stand-ins for the images of Debian, Python, Redis and PostgreSQL, unless they are there."""
        if not self.docker("image", "ls", "--quiet", "bootstrapped"):
            with tempfile.TemporaryDirectory(prefix="lesionlens-debian-") as root:
                subprocess.run(
                    ["debootstrap", "--variant=minbase", "--include=ca-certificates", _RELEASE, root, _MIRROR],
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
                with subprocess.Popen(
                    ["tar", "--create", "--directory", root, "--exclude=./var/cache/apt/archives/*.deb", "."],
                    stdout=subprocess.PIPE,
                ) as archive:
                    subprocess.run(
                        ["docker", "--host", self._socket, "import", "-", "bootstrapped"],
                        stdin=archive.stdout,
                        stdout=subprocess.DEVNULL,
                        check=True,
                    )
                assert archive.returncode == 0
        self.build_stand_in("debian", "stand-in-debian")

    def build_stand_in(self, name: str, tag: str) -> None:
        """Build stand_ins/NAME.Dockerfile as `tag`."""
        with tempfile.TemporaryDirectory(prefix="lesionlens-stand-in-") as folder:
            context = Path(folder) / "context"
            shutil.copytree(STAND_INS, context)
            shutil.copyfile(_CERTIFICATES, context / "ca-certificates.crt")
            self.docker("build", "--quiet", "--file", str(context / f"{name}.Dockerfile"), "--tag", tag, str(context))

    def _output(self, *words: str, folder: Path | None = None) -> str:
        done = self._ask(*words, folder=folder)
        if done.returncode:
            raise RuntimeError(
                f"{' '.join(words)}: status {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
            )
        return done.stdout.strip()

    def _ask(self, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        # The classic builder: Debian's engine comes without buildx, and these Dockerfiles need nothing of it.
        environment = {**os.environ, "DOCKER_HOST": self._socket, "DOCKER_BUILDKIT": "0"}
        return subprocess.run(
            words,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            text=True,
            capture_output=True,
            check=False,
        )


def why_not() -> str | None:
    """What keeps this machine from running containers as these tests need them; None when nothing does."""
    engine = Engine(CACHE)
    try:
        engine.start()
        engine.bootstrap()
        engine.build_stand_in("python", "python:3.11-slim")
        # As the Dockerfiles do: a package from the index, by an ordinary container.
        download = ("python", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", "/tmp", "click")
        engine.docker("run", "--rm", "--init", "--cap-drop", "ALL", "--memory", "256m", "python:3.11-slim", *download)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return str(error)
    finally:
        engine.stop()
    return None


if __name__ == "__main__":
    if reason := why_not():
        sys.exit(f"No Docker engine can be used here: {reason}")
