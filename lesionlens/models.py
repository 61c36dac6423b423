"""`lesionlens models`: which versions of the networks answer, which are only tried, and the way back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from lesionlens.promotion import Shelf, Version
from lesionlens.refusals import sentence
from services.analysis.errors import LesionLensError
from services.analysis.results import NETWORKS
from services.analysis.settings import load_settings
from serving.model_config import CANARY, STABLE

#: What it takes until a change is in effect.
_RESTART = 'Restart stacker and gateway: they read the stack when they start (docs/deploy.md, "A new model").'
_POLL = "TensorFlow Serving sees it within 30 seconds; the embedded model server when it starts."


@click.group("models")
@click.option("--models", "models_dir", type=click.Path(file_okay=False, path_type=Path), help="Default: MODELS_DIR.")
@click.option(
    "--config",
    "config_dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of NETWORK.config. Default: tensorflow-serving beside the folder of the networks.",
)
@click.pass_context
def models_command(context: click.Context, models_dir: Path | None, config_dir: Path | None) -> None:
    """List versions of the networks, make one the canary or the stable one, and go back."""
    with _refusals():
        models = models_dir or load_settings().models_dir
    context.obj = Shelf(models, config_dir or models.resolve().parent / "tensorflow-serving")


@models_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def list_command(shelf: Shelf, *, as_json: bool) -> None:
    """List every version on this disk: its labels, and the stacks that were fitted with it."""
    with _refusals():
        for version in shelf.versions():
            click.echo(json.dumps(asdict(version)) if as_json else _line(version))


@models_command.command()
@click.argument("pairs", nargs=-1, required=True, metavar="NETWORK VERSION [NETWORK VERSION]…")
@click.option(
    "--to",
    "label",
    type=click.Choice([CANARY, STABLE]),
    default=STABLE,
    show_default=True,
    help=f"{CANARY}: loaded beside the stable one, asked by the shadow alone. {STABLE}: answered from.",
)
@click.pass_obj
def promote(shelf: Shelf, pairs: tuple[str, ...], label: str) -> None:
    """Make VERSION of NETWORK the canary, and then the stable one.

    Networks whose stack was fitted together change together: name all of them. It is refused where stack.canary.json
    was not fitted with just these files.
    """
    wanted = _wanted(pairs)
    with _refusals():
        if label == CANARY:
            shelf.to_canary(wanted)
        else:
            shelf.to_stable(wanted)
    for network, version in wanted.items():
        click.echo(f"{network} version {version} is {label}.")
    click.echo(_POLL if label == CANARY else _RESTART, err=True)


@models_command.command()
@click.argument("networks", nargs=-1, required=True, type=click.Choice(NETWORKS), metavar="NETWORK…")
@click.pass_obj
def rollback(shelf: Shelf, networks: tuple[str, ...]) -> None:
    """Take the last step of NETWORK back: unload its canary, or else answer from the version before."""
    with _refusals():
        answers_changed = shelf.back(set(networks))
    for network in networks:
        click.echo(f"{network}: the previous version is stable." if answers_changed else f"{network}: no canary.")
    click.echo(_RESTART if answers_changed else _POLL, err=True)


def _wanted(pairs: tuple[str, ...]) -> dict[str, int]:
    if len(pairs) % 2:
        raise click.UsageError("Each NETWORK needs a VERSION.")
    wanted: dict[str, int] = {}
    for network, version in zip(pairs[::2], pairs[1::2], strict=True):
        if network not in NETWORKS:
            raise click.BadParameter(f"{network!r} is none of {', '.join(NETWORKS)}", param_hint="NETWORK")
        if not version.isdecimal() or int(version) < 1:
            raise click.BadParameter(f"{version!r} is not a number from 1", param_hint="VERSION")
        if network in wanted:
            raise click.UsageError(f"{network} is named twice.")
        wanted[network] = int(version)
    return wanted


def _line(version: Version) -> str:
    labels = ", ".join(version.labels) or ("loaded" if version.loaded else "not loaded")
    stacks = ", ".join(
        f"{stack} was fitted with another file" if stack in version.misfits else stack for stack in version.stacks
    )
    return f"{version.network}  {version.version}  {labels}  {stacks or '-'}"


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except LesionLensError as error:
        raise click.ClickException(f"{sentence(error.detail)} Nothing was changed.") from error
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or 'The disk'}: {error.strerror}. Not all was written; when that is put right, the same"
            " command finishes it."
        ) from error
