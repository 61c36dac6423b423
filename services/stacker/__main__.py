"""`python -m services.stacker`: check that the served networks are those of the stack, then become the worker."""

from __future__ import annotations

import os
import sys
import time

import structlog

from services.analysis.doorbell import SWEEP_QUEUE
from services.analysis.errors import LesionLensError, ModelMismatchError
from services.analysis.settings import Settings, load_settings
from services.analysis.states import STACK
from services.analysis.telemetry import configure_logging
from services.stacker.stacking import STACK_FILE, load_stack, refuse_changed_networks
from serving.client import RemoteEnsemble

#: Processes of one worker. Two overlap one analysis' database round trips with another one's wait for the networks;
#: the networks themselves are shared, so more would only queue there.
CONCURRENCY = 2
#: Seconds between two looks whether the networks are up.
POLL_S = 0.2


def main() -> None:
    """Waits for the networks as long as it takes; refuses to start (exit 1) when one does not fit."""
    settings = load_settings()
    configure_logging(settings, "stacker")
    # In a process of its own, so that this one never has a gRPC thread: none could live on in the worker's forks, and
    # none can start another one while `execv` is under way, which Linux refuses and gRPC reports on standard error.
    check = os.fork()
    if not check:
        sys.exit(_check(settings))
    _, status = os.waitpid(check, 0)
    if status:
        sys.exit(1)
    os.execv(
        sys.executable,
        [
            # Quiet: Celery's banner is no line of the log, which machines read.
            sys.executable, "-m", "celery", "--quiet", "-A", "services.stacker.worker", "worker",
            "--queues", f"{STACK.queue},{SWEEP_QUEUE}", "--concurrency", str(CONCURRENCY), "--hostname", "stacker@%h",
            "--loglevel", settings.log_level, "--without-gossip", "--without-mingle", "--without-heartbeat",
        ],
    )  # fmt: skip


def _check(settings: Settings) -> int:
    """Returns the exit code of the check, which says by itself why it refuses."""
    try:
        _require_fitting_networks(settings, asked_by=os.getppid())
    except LesionLensError as error:
        structlog.get_logger(__name__).critical("refusing to start", why=error.detail, advice=error.advice)
        return 1
    return 0


def _require_fitting_networks(settings: Settings, asked_by: int) -> None:
    """Waits until every network answers, or nobody waits for the check any more."""
    stack = load_stack(settings.models_dir / STACK_FILE)
    refuse_changed_networks(stack, settings.models_dir)
    with RemoteEnsemble(settings.serving_addresses()) as networks:
        served = networks.served_versions(timeout_s=2.0)
        while not all(served.values()):
            if os.getppid() != asked_by:
                return
            time.sleep(POLL_S)
            served = networks.served_versions(timeout_s=2.0)
    for name, version in stack.versions.items():
        if version not in served[name]:
            raise ModelMismatchError(
                f"the stack was fitted for {name} version {version}; served is {sorted(served[name])}"
            )


if __name__ == "__main__":
    main()
