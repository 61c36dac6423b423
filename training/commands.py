"""``lesionlens train``, ``ablate``, ``export``, ``evaluate`` and ``calibrate``: options, and what they mean."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import click

from lesionlens.refusals import refusals
from services.analysis.results import NETWORKS
from training.corpus import open_corpus
from training.models_folder import published_stack
from training.pipeline import measure_parts, measure_release, release, train_networks
from training.recipe import read_recipes

_RECIPES = Path(__file__).with_name("recipes.json")
_ABLATION = Path(__file__).with_name("ablation.json")
_MODELS = Path(__file__).parent.parent / "serving" / "models"


_existing_folder = click.Path(exists=True, file_okay=False, path_type=Path)
_folder = click.Path(file_okay=False, path_type=Path)
_data = click.option("--data", required=True, type=_existing_folder, help="Folder of labelled images.")
_cache = click.option("--cache", type=_folder, help="Prepared squares. Default: LESIONLENS_TRAINING_CACHE.")
_runs = click.option("--runs", default=Path("runs"), show_default=True, type=_folder, help="Weights and curves.")
_weights = click.option(
    "--weights", type=_existing_folder, help="Folder of <network>_imagenet_notop.npz to start from."
)
_models = click.option("--models", default=_MODELS, type=_folder, help="SavedModels. Default: serving/models.")


def _verbosity() -> int:
    """Keras' progress bar for a terminal, no lines of thousands of steps for a file."""
    return 1 if sys.stdout.isatty() else 0


@click.command()
@_data
@_runs
@_cache
@_weights
@click.option(
    "--published",
    type=_existing_folder,
    help="Folder of SavedModels to go on from instead: serving/models has the networks that come with LesionLens.",
)
@click.option(
    "--recipe",
    "recipe_file",
    default=_RECIPES,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON list of recipes. Default: the one that the published networks were trained with.",
)
@click.option("--network", "networks", multiple=True, type=click.Choice(NETWORKS), help="Train only this one.")
@click.option("--minutes", type=click.FloatRange(min=0.1), help="Wall clock for each network.")
@click.option("--epochs", type=click.FloatRange(min=0.01), help="Epochs for each network, instead of minutes.")
@click.option("--backend", type=click.Choice(["tensorflow", "jax", "torch"]), help="Default: KERAS_BACKEND.")
def train(
    *,
    data: Path,
    runs: Path,
    cache: Path | None,
    weights: Path | None,
    published: Path | None,
    recipe_file: Path,
    networks: tuple[str, ...],
    minutes: float | None,
    epochs: float | None,
    backend: str | None,
) -> None:
    """Train the networks on a folder of labelled images; an interrupted training resumes."""
    if weights and published:
        raise click.UsageError("--weights and --published are two different starts: name one of them.")
    if published and backend not in (None, "tensorflow"):
        raise click.UsageError("--published reads SavedModels, which needs TensorFlow: leave --backend out.")
    if backend or published:
        os.environ["KERAS_BACKEND"] = backend or "tensorflow"
    recipes = [r for r in read_recipes(recipe_file) if not networks or r.network in networks]
    if epochs is not None:
        recipes = [dataclasses.replace(r, minutes=None, epochs=epochs) for r in recipes]
    elif minutes is not None:
        recipes = [dataclasses.replace(r, minutes=minutes) for r in recipes]
    with refusals():
        train_networks(data, runs, recipes, weights=weights, published=published, cache=cache, verbose=_verbosity())


@click.command()
@_data
@_runs
@_cache
@_weights
@click.option(
    "--recipe",
    "recipe_file",
    default=_ABLATION,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON list of one recipe. Default: a short training of MobileNet with everything switched on.",
)
@click.option(
    "--report",
    default=Path("docs/ablation.md"),
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The table, as Markdown.",
)
def ablate(
    *, data: Path, runs: Path, cache: Path | None, weights: Path | None, recipe_file: Path, report: Path
) -> None:
    """Measure what each part of a recipe is worth, by training without it; an interrupted one resumes."""
    (recipe,) = read_recipes(recipe_file)
    if recipe.teachers:
        raise click.UsageError(
            f"{recipe_file} names teachers, whose answers are no part that could be left out: ablate a recipe without."
        )
    with refusals():
        measure_parts(data, runs, recipe, report=report, weights=weights, cache=cache)


@click.command()
@_data
@_runs
@_cache
@_models
@click.option(
    "--version", type=click.IntRange(min=1), help="Of the networks that are exported. Default: one that none has yet."
)
@click.option(
    "--stack-version", help="Answered as model_version. Default: the number after the published stack's, 1 without one."
)
@click.option(
    "--tta",
    "turns",
    type=click.Choice(["1", "2", "4", "8"]),
    help="Flips and turns that the service averages by itself, of each network. Default: as published, or 1.",
)
@click.option(
    "--tta-of",
    "turns_by_network",
    multiple=True,
    type=(click.Choice(NETWORKS), click.Choice(["1", "2", "4", "8"])),
    help="The same for one network, such as `--tta-of mobilenet 4`: a quick one may look more often than a slow one.",
)
@click.option("--others", type=_existing_folder, help="Folder of pictures of anything but lesions, to be refused.")
@click.option(
    "--no-others",
    "without_others",
    is_flag=True,
    help="Where published models refuse what is no lesion: export such as do not, and by which no drift is measured.",
)
@click.option(
    "--network",
    "networks",
    multiple=True,
    type=click.Choice(NETWORKS),
    help="Export only this one; of the others the published version stays. Default: all.",
)
@click.option(
    "--trained-share",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0.0, max=1.0, min_open=True),
    help="After `train --published`: share of the new weights in a mean with the published ones; 0.5 is often best.",
)
def export(
    *,
    data: Path,
    runs: Path,
    cache: Path | None,
    models: Path,
    networks: tuple[str, ...],
    trained_share: float,
    version: int | None,
    stack_version: str | None,
    turns: str | None,
    turns_by_network: tuple[tuple[str, str], ...],
    others: Path | None,
    without_others: bool,
) -> None:
    """Write trained networks as SavedModels, and fit the stack over them."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with refusals():
        release(
            data,
            runs,
            models,
            version=version,
            stack_version=stack_version,
            networks=networks or NETWORKS,
            turns=int(turns) if turns else None,
            turns_by_network={name: int(count) for name, count in turns_by_network},
            trained_share=trained_share,
            cache=cache,
            others=others,
            without_others=without_others,
        )


@click.command()
@_data
@_cache
@_models
@click.option("--side", default="test", show_default=True, type=click.Choice(["validation", "test"]))
@click.option(
    "--report",
    default=Path("docs/evaluation"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Written as .json and .md.",
)
@click.option("--into-stack", is_flag=True, help="Also write the main numbers into stack.json.")
def evaluate(*, data: Path, cache: Path | None, models: Path, side: str, report: Path, into_stack: bool) -> None:
    """Measure the exported networks and their stack on one side of the split."""
    with refusals():
        measure_release(data, models, side=side, report=report, cache=cache, into_stack=into_stack)


@click.command()
@_data
@_cache
@_models
@click.option("--into", type=_folder, help="Where the report goes. Default: CALIBRATED_DIR.")
@click.option("--images", type=click.IntRange(min=50), help="Of the test side. Default: all, which takes minutes.")
@click.option("--publish", is_flag=True, help="Write the report beside the networks, for all who get them.")
def calibrate(
    *, data: Path, cache: Path | None, models: Path, into: Path | None, images: int | None, publish: bool
) -> None:
    """Measure in which precisions the networks may compute, and find the ranges for int8."""
    from services.analysis.settings import load_settings
    from training.calibration import calibrate as measure_precisions
    from training.calibration import lines

    folder = models if publish else into or load_settings().calibrated_folder()
    with refusals():
        published_stack(models)  # before all images are prepared
        report = measure_precisions(open_corpus(data, cache), models, folder, images=images, log=click.echo)
    for line in lines(report):
        click.echo(line)
    click.echo(f"Written to {folder}; PRECISION=auto takes the quickest that is offered at the next start.")
