"""The steps from a folder of images to published models, for :mod:`training.commands`: train, release, measure."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from services.analysis.results import NETWORKS
from serving.embedded.precision import REPORT
from training import split_record
from training.corpus import Corpus, open_corpus, refuse_one_kind
from training.models_folder import (
    model_folder,
    next_stack_version,
    next_version,
    published_familiarity,
    published_stack,
    published_version,
    refuse_lost_score,
    refuse_taken,
    serve,
    write_json,
)
from training.recipe import Recipe
from training.sampling import sampling_weights
from training.stacking import refuse_too_few, turns_to_fit
from training.trained import refuse_untrained, refuse_without_teachers

if TYPE_CHECKING:
    from training.finetuning import TrainingData
    from training.networks import Network

Log = Callable[[str], None]


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

    Raises:
        OtherSplitError: a network or its teacher was begun with other images.
        NotTrainedError: a teacher is not trained, and will not be before its student.
    """
    refuse_without_teachers(recipes, runs)
    from training.finetuning import train_network

    corpus = open_corpus(data, cache)
    log(json.dumps(corpus.report))
    started_from = split_record.published_split(published) if published else None
    for recipe in recipes:
        split_record.begin(runs / recipe.network, corpus.split, started_from)
        for teacher in recipe.teachers:
            split_record.hold_against(runs / teacher, corpus.split)
        start = _start(recipe.network, weights, published)
        train_network(recipe, training_data(corpus, recipe), runs, start=start, log=log, verbose=verbose)


def _start(name: str, weights: Path | None, published: Path | None) -> Callable[[Network], None] | None:
    """Return what gives a new network its first weights; ``None`` leaves them random."""
    from training.networks import assign_weights, load_backbone_weights, weights_by_position
    from training.published import published_network

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
    version: int | None = None,
    stack_version: str | None = None,
    networks: Sequence[str] = NETWORKS,
    turns: int | None = None,
    turns_by_network: Mapping[str, int] = MappingProxyType({}),
    trained_share: float = 1.0,
    others: Path | None = None,
    without_others: bool = False,
    cache: Path | None = None,
    log: Log = click.echo,
) -> None:
    """Export trained networks to ``models``, fit the stack on the validation side and write ``stack.json``.

    ``version`` is that of ``networks``, which none of them may have yet; by default the next. Servers whose settings
    lie beside ``models`` load it from then on. ``stack_version`` is by default the number after the published one.

    Of what is not among ``networks`` the published version stays. With a ``trained_share`` below 1 the
    others are a mean in which what was trained counts by it, and what was published before by the rest.

    ``turns`` (1, 2, 4 or 8) is how many flips and turns the service will average by itself, ``turns_by_network`` where
    one looks at others than that; by default as many as the published one looks at, or one. ``others`` is a folder of
    pictures of anything but lesions, at any depth; without it nothing is refused as strange, unless the first network
    stays and was taught to before. ``without_others`` accepts that models do no longer what published ones do.

    Nothing in ``models`` changes before the stack is fitted.

    Raises:
        TooFewForAStackError: no stack can be fitted to the validation side.
        NothingPublishedError: ``models`` lacks what is to stay, or what is to be mixed with.
        ScoreLostError: published models refuse what is strange, and these would not.
        StackWithoutNumberError: no number follows from the published stack's version.
        VersionTakenError: a network has ``version`` already.
        OtherSplitError: a network was trained on other images.
        NotTrainedError: one of ``networks`` is not trained to its end.
        NoOtherPicturesError: ``others`` holds no picture that could be used.
    """
    goes_on = trained_share < 1.0 or set(networks) != set(NETWORKS)
    published = published_stack(models) if goes_on or (models / "stack.json").exists() else {}
    version = version or next_version(models, networks)
    refuse_taken(models, networks, version)
    stack_version = stack_version or next_stack_version(published)
    usual, of_each = turns_to_fit(published, turns, turns_by_network)
    if NETWORKS[0] in networks and not (others or without_others):
        refuse_lost_score(published)
    refuse_untrained(runs, networks)
    corpus = open_corpus(data, cache)
    validation = corpus.positions("validation")
    refuse_too_few(corpus.allowed[validation], corpus.groups[validation])
    for name in networks:
        split_record.hold_against(runs / name, corpus.split)
    seen = set[str]().union(*(split_record.splits_of(runs / name) for name in networks))
    if goes_on:
        # What stays, or is mixed in, brings what it has seen along.
        seen.add(split_record.published_split(models))

    from training.others import other_pictures
    from training.release import export_all, fit_release

    # The score looks at the first network alone: while that one stays, so does what it refuses.
    familiarity = None if NETWORKS[0] in networks else published_familiarity(models)
    strange = other_pictures(others, corpus.cache) if others else None
    if strange is None and familiarity is None:
        log("no --others: these models will take any picture for a lesion")
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models, prefix=".export-") as beside:
        new = Path(beside)
        entries = [
            {**entry, "turns": of_each[entry["name"]]}
            for entry in export_all(
                corpus, runs, models, version, log, networks=networks, into=new, trained_share=trained_share
            )
        ]
        folders = [model_folder(new if e["name"] in networks else models, e["name"], e["version"]) for e in entries]
        content = fit_release(
            corpus, folders, entries, stack_version, log, turns=usual, others=strange, familiarity=familiarity
        )
        for name in networks:
            (models / name).mkdir(exist_ok=True)
            model_folder(new, name, version).replace(model_folder(models, name, version))
    write_json(models / "stack.json", {**content, "split": corpus.split if seen <= {corpus.split} else None})
    serve(models, networks, version)
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
    from training.measuring import measure, scores
    from training.report import markdown, summary

    content = published_stack(models)
    corpus = open_corpus(data, cache)
    refuse_one_kind(corpus, corpus.positions(side), side)
    measured = {
        "data": corpus.report,
        "same_split": content.get("split") == corpus.split,
        **measure(corpus, models, content, side, log),
    }
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
    refuse_one_kind(corpus, corpus.positions("validation"), "validation")
    recipes = variants(recipe)
    files = {}
    for name, variant in recipes.items():
        log(name)
        folder = runs / re.sub(r"\W+", "-", name)
        split_record.begin(folder / recipe.network, corpus.split, None)
        start = _start(recipe.network, weights, None)
        files[name] = train_network(variant, training_data(corpus, variant), folder, start=start, log=log, verbose=0)
    data_of_all = training_data(corpus, recipe)
    table = markdown(compared(recipes, files, data_of_all, corpus.groups), recipe, len(data_of_all.validation))
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(table, encoding="utf-8")
    log(table)
