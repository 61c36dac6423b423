"""What ``lesionlens train``, ``evaluate`` and ``export`` do, as plain functions."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from services.analysis.errors import LesionLensError
from serving.embedded.precision import REPORT
from training.corpus import Corpus, open_corpus
from training.recipe import Recipe, read_recipes
from training.sampling import sampling_weights

if TYPE_CHECKING:
    from training.finetuning import TrainingData
    from training.networks import Network

Log = Callable[[str], None]

NETWORKS: tuple[str, ...] = ("mobilenet", "densenet121", "densenet169", "nasnetmobile")

_RECIPES = Path(__file__).with_name("recipes.json")
_ABLATION = Path(__file__).with_name("ablation.json")
_MODELS = Path(__file__).parent.parent / "serving" / "models"


def training_data(corpus: Corpus, recipe: Recipe) -> TrainingData:
    """Return what a recipe draws from."""
    from training.finetuning import TrainingData

    positions = corpus.positions("train")
    weights = sampling_weights([corpus.samples[i] for i in positions], recipe.source_factors, recipe.balance)
    return TrainingData(
        pixels=corpus.images.pixels,
        allowed=corpus.allowed,
        weights=weights,
        positions=positions,
        validation=corpus.positions("validation"),
    )


def train_networks(
    data: Path,
    runs: Path,
    recipes: Sequence[Recipe],
    *,
    weights: Path | None = None,
    published: Path | None = None,
    cache: Path | None = None,
    verbose: int = 2,
    log: Log = click.echo,
) -> None:
    """Train networks one after another; a second call resumes where the first ended.

    Args:
        data: folder with ``metadata.csv`` or with one subfolder per diagnosis.
        runs: where weights, curves and checkpoints go.
        recipes: what to train, in order; teachers before those that learn from them.
        weights: folder with ``<network>_imagenet_notop.npz``; networks without a file start from random weights.
        published: folder of SavedModels with their ``stack.json``; the networks start from those instead.
        cache: for prepared squares; default ``LESIONLENS_TRAINING_CACHE`` or ``~/.cache/lesionlens``.
        verbose: Keras' progress display (0 none, 1 bar, 2 line).
        log: receives one line per event.
    """
    from training.finetuning import train_network

    corpus = open_corpus(data, cache)
    log(json.dumps(corpus.report))
    for recipe in recipes:
        start = _start(recipe.network, weights, published)
        train_network(recipe, training_data(corpus, recipe), runs, start=start, log=log, verbose=verbose)


def _start(name: str, weights: Path | None, published: Path | None) -> Callable[[Network], None] | None:
    """Return what gives a new network its first weights; ``None`` leaves them random."""
    from training.networks import assign_weights, load_backbone_weights, weights_by_position
    from training.published import published_network
    from training.release import model_folder, published_version

    if published is not None:
        folder = model_folder(published, name, published_version(published, name))
        return lambda network: assign_weights(network, weights_by_position(published_network(name, folder)))
    file = weights / f"{name}_imagenet_notop.npz" if weights else None
    if file is None or not file.exists():
        return None
    return lambda network: load_backbone_weights(network, file)


def release(
    data: Path,
    runs: Path,
    models: Path,
    *,
    version: int,
    stack_version: str,
    networks: Sequence[str] = NETWORKS,
    turns: int = 1,
    turns_by_network: Mapping[str, int] = MappingProxyType({}),
    mean_with_published: bool = False,
    others: Path | None = None,
    cache: Path | None = None,
    log: Log = click.echo,
) -> None:
    """Export trained networks to ``models``, fit the stack on the validation side and write ``stack.json``.

    Of what is not among ``networks`` the published version in ``models`` stays. With ``mean_with_published`` the others
    are the mean of what was trained and what was published before.

    ``turns`` (1, 2, 4 or 8) is how many flips and turns the service will average by itself, ``turns_by_network`` where
    one looks at others than that. ``others`` is a folder of
    pictures of anything but lesions, at any depth; without it nothing is refused as strange, unless the first network
    stays and was taught to before.
    """
    from training.others import other_pictures
    from training.release import export_all, fit_release, published_familiarity, write_json

    corpus = open_corpus(data, cache)
    # The score looks at the first network alone: while that one stays, so does what it refuses.
    familiarity = None if NETWORKS[0] in networks else published_familiarity(models)
    entries = [
        {**entry, "turns": turns_by_network.get(entry["name"], turns)}
        for entry in export_all(
            corpus, runs, models, version, log, networks=networks, mean_with_published=mean_with_published
        )
    ]
    strange = other_pictures(others, corpus.cache) if others else None
    if strange is None and familiarity is None:
        log("no --others: these models will take any picture for a lesion")
    content = fit_release(
        corpus, models, entries, stack_version, log, turns=turns, others=strange, familiarity=familiarity
    )
    write_json(models / "stack.json", content)
    # What was measured of the networks before says nothing about these.
    (models / REPORT).unlink(missing_ok=True)


def measure_release(
    data: Path,
    models: Path,
    *,
    side: str,
    report: Path,
    cache: Path | None = None,
    into_stack: bool = False,
    log: Log = click.echo,
) -> None:
    """Measure the networks and the stack in ``models`` on one side of the split; write JSON, Markdown and figures.

    With ``into_stack`` the main numbers also go into ``stack.json`` under ``metrics``, for the model card page.
    """
    from training.figures import draw_reliability, draw_roc
    from training.release import measure, scores, write_json
    from training.report import markdown, summary

    corpus = open_corpus(data, cache)
    content = json.loads((models / "stack.json").read_text(encoding="utf-8"))
    measured = {"data": corpus.report, **measure(corpus, models, content, side, log)}
    write_json(report.with_suffix(".json"), measured)
    report.with_suffix(".md").write_text(markdown(measured), encoding="utf-8")
    draw_roc(*scores(corpus, models, content, side), report.parent / "images" / "roc.svg")
    draw_reliability(measured["reliability"], report.parent / "images" / "reliability.svg")
    if into_stack:
        write_json(models / "stack.json", {**content, "metrics": summary(measured)})


def measure_parts(
    data: Path,
    runs: Path,
    recipe: Recipe,
    *,
    report: Path,
    weights: Path | None = None,
    cache: Path | None = None,
    log: Log = click.echo,
) -> None:
    """Train a recipe with everything and without each part, compare them, and write the table.

    Every training lies in a folder of its own in ``runs`` and is not repeated by a second call.
    """
    from training.ablation import compared, markdown, variants
    from training.finetuning import train_network

    corpus = open_corpus(data, cache)
    recipes = variants(recipe)
    files = {}
    for name, variant in recipes.items():
        log(name)
        folder = runs / re.sub(r"\W+", "-", name)
        start = _start(recipe.network, weights, None)
        files[name] = train_network(variant, training_data(corpus, variant), folder, start=start, log=log, verbose=0)
    data_of_all = training_data(corpus, recipe)
    table = markdown(compared(recipes, files, data_of_all), recipe, len(data_of_all.validation))
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(table, encoding="utf-8")
    log(table)


_existing_folder = click.Path(exists=True, file_okay=False, path_type=Path)
_folder = click.Path(file_okay=False, path_type=Path)
_data = click.option("--data", required=True, type=_existing_folder, help="Folder of labelled images.")
_cache = click.option("--cache", type=_folder, help="Prepared squares. Default: LESIONLENS_TRAINING_CACHE.")
_runs = click.option("--runs", default=Path("runs"), show_default=True, type=_folder, help="Weights and curves.")
_weights = click.option(
    "--weights", type=_existing_folder, help="Folder of <network>_imagenet_notop.npz to start from."
)
_models = click.option("--models", default=_MODELS, type=_folder, help="SavedModels. Default: serving/models.")


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
    try:
        train_networks(data, runs, recipes, weights=weights, published=published, cache=cache, verbose=1)
    except LesionLensError as error:
        raise click.ClickException(f"{error.detail}. {error.advice}") from error


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
    measure_parts(data, runs, recipe, report=report, weights=weights, cache=cache)


@click.command()
@_data
@_runs
@_cache
@_models
@click.option("--version", default=1, show_default=True, type=click.IntRange(min=1), help="Of the networks.")
@click.option("--stack-version", default="1", show_default=True, help="Answered as model_version.")
@click.option(
    "--tta",
    "turns",
    default="1",
    show_default=True,
    type=click.Choice(["1", "2", "4", "8"]),
    help="Flips and turns that the service averages by itself.",
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
    "--network",
    "networks",
    multiple=True,
    type=click.Choice(NETWORKS),
    help="Export only this one; of the others the published version stays. Default: all.",
)
@click.option(
    "--mean-with-published",
    is_flag=True,
    help="Of what `train --published` went on from: export the mean of the weights before and after, often better.",
)
def export(
    *,
    data: Path,
    runs: Path,
    cache: Path | None,
    models: Path,
    networks: tuple[str, ...],
    mean_with_published: bool,
    version: int,
    stack_version: str,
    turns: str,
    turns_by_network: tuple[tuple[str, str], ...],
    others: Path | None,
) -> None:
    """Write trained networks as SavedModels, and fit the stack over them."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    release(
        data,
        runs,
        models,
        version=version,
        stack_version=stack_version,
        networks=networks or NETWORKS,
        turns=int(turns),
        turns_by_network={name: int(count) for name, count in turns_by_network},
        mean_with_published=mean_with_published,
        cache=cache,
        others=others,
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
    corpus = open_corpus(data, cache)
    report = measure_precisions(corpus, models, folder, images=images, log=click.echo)
    for line in lines(report):
        click.echo(line)
    click.echo(f"Written to {folder}; PRECISION=auto takes the quickest that is offered at the next start.")
