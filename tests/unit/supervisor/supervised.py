"""A supervisor in a process of its own, for the tests that send it signals: they must never reach pytest.

`python -m tests.unit.supervisor.supervised FOLDER [deaf]`: its gateway runs until FOLDER/gate is there, its sample
gets no answer, and nothing waits before a restart. With `deaf`, the kernel hands SIGTERM to another thread than the
main one.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from lesionlens.supervisor import bring_up, child
from lesionlens.supervisor.bring_up import Supervisor
from lesionlens.supervisor.console import Console
from lesionlens.supervisor.plan import Plan
from lesionlens.supervisor.program import Program
from lesionlens.supervisor.sample import NoAnswerError


def main(folder: Path, *, deaf: bool) -> int:
    """Supervises until it is asked to stop; the supervisor's exit status."""
    console = Console(["gateway"])
    trust = child.Child.trust

    def unanswered(_host: str, _port: int) -> str:
        raise NoAnswerError("busy")

    def trust_and_tell(trusting: child.Child) -> None:
        trust(trusting)
        console.say("trusted")

    bring_up.classify_sample = unanswered
    child.Child.trust = trust_and_tell  # type: ignore[method-assign]
    child.PAUSES_S = (0.0,)
    if deaf:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ends_at_the_gate = f"import os, time\nwhile not os.path.exists({str(folder / 'gate')!r}): time.sleep(0.01)"
    gateway = Program(
        "gateway", (sys.executable, "-I", "-S", "-c", ends_at_the_gate), answers=lambda: True, stop_within_s=0.1
    )
    plan = Plan((), Program("migrate", ("true",)), (), gateway, None, "127.0.0.1", 1, folder)
    with (folder / "lock").open("w") as lock:
        return Supervisor(plan, console, lock.fileno()).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), deaf="deaf" in sys.argv[2:]))
