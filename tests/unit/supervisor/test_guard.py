"""The guard ends what is left when its supervisor is gone, and holds the folder's lock until then."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lesionlens.supervisor.folder_lock import FolderInUseError, FolderLock
from lesionlens.supervisor.orphan_guard import OrphanGuard

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)
# A shell starts what runs in its background with SIGINT ignored, and children inherit that.
WILLING = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); print('up', flush=True); time.sleep(600)"


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[FolderLock]:
    with FolderLock(tmp_path) as lock:
        lock.acquire("http://localhost:8000")
        yield lock


def sleeper(script: str = WILLING) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.stdout.close()
    return process


def test_what_is_still_known_to_live_is_ended_with_its_own_signal(lock: FolderLock) -> None:
    guard = OrphanGuard(lock.descriptor)
    left, gone = sleeper(), sleeper()
    guard.started(left.pid, signal.SIGINT)
    guard.started(gone.pid, signal.SIGTERM)
    guard.ended(gone.pid)

    guard.close()

    assert left.wait(60) == -signal.SIGINT
    assert gone.poll() is None
    gone.kill()
    gone.wait()


def test_what_ignores_the_signal_is_killed(lock: FolderLock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesionlens.supervisor.orphan_guard._CLOSE_S", 30)
    guard = OrphanGuard(lock.descriptor)
    stubborn = sleeper(STUBBORN)
    guard.started(stubborn.pid, signal.SIGTERM)

    guard.close()

    assert stubborn.wait(60) == -signal.SIGKILL


def test_the_guard_is_replaced_when_it_is_killed(lock: FolderLock) -> None:
    guard = OrphanGuard(lock.descriptor)
    left = sleeper()
    guard.started(left.pid, signal.SIGTERM)
    guard._process.kill()
    guard._process.wait()

    other = sleeper()
    guard.started(other.pid, signal.SIGTERM)
    guard.close()

    assert left.wait(60) == -signal.SIGTERM
    assert other.wait(60) == -signal.SIGTERM


def test_a_folder_belongs_to_one_supervisor(tmp_path: Path, lock: FolderLock) -> None:
    with FolderLock(tmp_path) as second, pytest.raises(FolderInUseError) as refused:
        second.acquire("http://localhost:9000")

    assert "http://localhost:8000" in str(refused.value)
    assert str(psutil.Process().pid) in str(refused.value)


def test_a_lock_given_back_can_be_taken_again(tmp_path: Path) -> None:
    for port in (8000, 9000):
        with FolderLock(tmp_path) as lock:
            lock.acquire(f"http://localhost:{port}")

    assert "9000" in (tmp_path / "lock").read_text()


def test_the_lock_of_a_killed_supervisor_is_waited_for_as_long_as_its_guard_works(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from lesionlens.supervisor.folder_lock import FolderLock\n"
        "from lesionlens.supervisor.orphan_guard import OrphanGuard\n"
        "import signal, subprocess\n"
        "lock = FolderLock(Path(sys.argv[1])); lock.acquire('http://localhost:1')\n"
        "guard = OrphanGuard(lock.descriptor)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "guard.started(child.pid, signal.SIGTERM)\n"
        "print(child.pid, flush=True); time.sleep(600)\n"
    )
    first = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    child = psutil.Process(int(first.stdout.readline()))
    first.stdout.close()

    first.kill()
    first.wait()
    with FolderLock(tmp_path) as second:
        second.acquire("http://localhost:2")

        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
