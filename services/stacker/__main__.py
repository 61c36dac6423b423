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
from services.stacker.stacking import STACK_FILE, load_stack
from serving.client import RemoteEnsemble

#: Processes of one worker. Two overlap one analysis' database round trips with another one's wait for the networks;
#: the networks themselves are shared, so more would only queue there.
CONCURRENCY = 2
#: Seconds between two looks whether the networks are up.
POLL_S = 0.2


def main() -> None:
    """Waits for the networks as long as it takes; refuses to start (exit 1) when a version does not fit."""
    settings = load_settings()
    configure_logging(settings, "stacker")
    try:
        _require_fitting_networks(settings)
    except LesionLensError as error:
        structlog.get_logger(__name__).critical("refusing to start", why=error.detail, advice=error.advice)
        sys.exit(1)
    # Replaces this process, so that no gRPC thread of the check lives on in the worker's forks.
    os.execv(
        sys.executable,
        [
            # Quiet: Celery's banner is no line of the log, which machines read.
            sys.executable, "-m", "celery", "--quiet", "-A", "services.stacker.worker", "worker",
            "--queues", f"{STACK.queue},{SWEEP_QUEUE}", "--concurrency", str(CONCURRENCY), "--hostname", "stacker@%h",
            "--loglevel", settings.log_level, "--without-gossip", "--without-mingle", "--without-heartbeat",
        ],
    )  # fmt: skip


def _require_fitting_networks(settings: Settings) -> None:
    stack = load_stack(settings.models_dir / STACK_FILE)
    with RemoteEnsemble(settings.serving_addresses()) as networks:
        while True:
            served = networks.served_versions(timeout_s=2.0)
            if all(served.values()):
                break
            time.sleep(POLL_S)
    for name, version in stack.versions.items():
        if version not in served[name]:
            raise ModelMismatchError(
                f"the stack was fitted for {name} version {version}; served is {sorted(served[name])}"
            )


if __name__ == "__main__":
    main()
