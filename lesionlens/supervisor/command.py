"""`lesionlens run`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from lesionlens.refusals import told
from lesionlens.supervisor.bring_up import Supervisor
from lesionlens.supervisor.console import Console
from lesionlens.supervisor.folder_lock import FolderInUseError, FolderLock
from lesionlens.supervisor.plan import make_plan, models_folder
from lesionlens.supervisor.sockets import why_not_listen
from services.analysis.errors import LesionLensError
from services.analysis.results import NETWORKS
from services.analysis.settings import Settings, load_settings

#: Exit status when something has to be changed before it can start.
CANNOT_START = 2


@click.command("run")
def run_command() -> None:
    """Run the whole service on this machine until Ctrl-C: database, queue, networks, workers, gateway.

    PORT, DATABASE_URL, REDIS_URL and the other settings come from the environment; what they name is used instead of
    the embedded part.
    """
    try:
        settings = load_settings()
    except LesionLensError as error:
        _refuse(told(error))
    folder = settings.data_dir.resolve()
    _check_models(settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FolderLock(folder) as lock:
            lock.acquire(f"http://{settings.host}:{settings.port}")
            _check_port(settings)
            plan = make_plan(settings, folder, os.environ)
            status = Supervisor(plan, Console(plan.names), lock.descriptor).run()
    except FolderInUseError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{folder} cannot be used: {error}")
    sys.exit(status)


def _check_port(settings: Settings) -> None:
    why = why_not_listen(settings.host, settings.port)
    if why is not None:
        _refuse(
            f"Nothing was started: port {settings.port} on {settings.host} cannot be used ({why})."
            " Set PORT to a free one, for example PORT=8080 make run."
        )


def _check_models(settings: Settings) -> None:
    if all(settings.serving_addresses().values()):
        return
    folder = models_folder(settings, os.environ)
    wanted: list[Path] = [folder / "stack.json", *(folder / name for name in NETWORKS)]
    missing = [path.name for path in wanted if not path.exists()]
    if missing:
        _refuse(f"Nothing was started: {folder} lacks {', '.join(missing)}. Set MODELS_DIR, or train: make models.")


def _refuse(sentence: str) -> None:
    click.echo(sentence, err=True)
    sys.exit(CANNOT_START)
