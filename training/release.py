"""From trained weights to what the service ships: SavedModels, stack, bands, out-of-distribution score."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from services.analysis.results import NETWORKS
from training.age import age_json, fit_age, stack_logit
from training.another_camera import retaken
from training.answers import run_networks
from training.corpus import Corpus
from training.evaluation import ages, auc_with_interval
from training.models_folder import model_folder, published_entry, published_version
from training.networks import SERVING_SIZE_PX, build_network, load_weights, save_weights
from training.out_of_distribution import fit_familiarity
from training.recipe import recipe_from
from training.stacking import fit_stack, malignant_logits, stack_json, turns_of

Array = np.ndarray[Any, Any]
Log = Callable[[str], None]

# Pictures of lesions from each source that the out-of-distribution score is fitted on: a source of few pictures, as
# that of the phone photographs, is no stranger than one of many.
_STRANGENESS_IMAGES = 700

# Draws how lesions are taken by another camera.
_RETAKEN_SEED = 20261128

# Validation pictures that decide at which size a network looks.
_SIZE_IMAGES = 500

# AUC that a larger picture must gain to be worth its time: less is noise with so many images.
_GAIN_OF_A_LARGER = 0.003


def export_network(name: str, weights: Path, size_px: int, folder: Path) -> str:
    """Write one trained network as a SavedModel with its warm-up request; return its SHA-256."""
    import keras

    from training.export import write_saved_model, write_warm_up
    from training.rounding import assign_rounded

    keras.config.set_dtype_policy("float32")
    network = build_network(name, size_px)
    assign_rounded(network, load_weights(weights))
    digest = write_saved_model(network, folder)
    write_warm_up(folder, name)
    return digest


def choose_size(corpus: Corpus, name: str, weights: Path, sizes: Sequence[int], log: Log) -> int:
    """Return the smallest picture size at which a network is as good as at any, on a part of the validation side."""
    if len(sizes) == 1:
        return sizes[0]
    positions = corpus.positions("validation")
    positions = positions[:: max(len(positions) // _SIZE_IMAGES, 1)]
    malignant = corpus.malignant[positions]
    auc: dict[int, float] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / name / "1"
            export_network(name, weights, size, folder)
            answers = run_networks([folder], corpus.images.pixels, positions)
        auc[size] = auc_with_interval(malignant_logits(answers.class_logits[0])[:, 0], malignant)[0]
    log(f"{name}: validation AUC by picture size { ({s: round(a, 4) for s, a in auc.items()}) }")
    return smallest_as_good(auc)


def smallest_as_good(auc: Mapping[int, float]) -> int:
    """Return the smallest picture size whose AUC no larger one beats by more than noise."""
    return min(size for size, reached in auc.items() if reached >= max(auc.values()) - _GAIN_OF_A_LARGER)


def candidate_sizes(run: Path) -> tuple[int, ...]:
    """Return the sizes worth trying: that of the fitted head, else the last one trained at and the next.

    A network sees objects larger when cropped for training, so it is often best a step above its training size
    (Touvron et al. 2019).
    """
    recipe = recipe_from(json.loads((run / "recipe.json").read_text(encoding="utf-8")))
    if recipe.refit_images:
        return (recipe.refit_size_px,)
    last = recipe.phases[-1].size_px
    return tuple(s for s in (last, last + 32) if s <= SERVING_SIZE_PX)


def export_all(
    corpus: Corpus,
    runs: Path,
    models: Path,
    version: int,
    log: Log,
    *,
    networks: Sequence[str] = NETWORKS,
    into: Path,
    trained_share: float = 1.0,
) -> list[dict[str, Any]]:
    """Export ``networks`` to the folder ``into``; return the entries of all for ``stack.json``.

    Of the others what ``models`` has published stays.

    With a ``trained_share`` below 1 the trained weights count by it in a mean with the published ones; it is kept
    beside them as ``mean.npz``.
    """
    entries = []
    for name in NETWORKS:
        if name not in networks:
            entries.append(published_entry(models, name))
            continue
        weights = runs / name / "weights.npz"
        if trained_share < 1.0:
            weights = _mixed_with_published(name, weights, models, trained_share)
        size = choose_size(corpus, name, weights, candidate_sizes(runs / name), log)
        digest = export_network(name, weights, size, model_folder(into, name, version))
        log(f"{name}: version {version} at {size} px, sha256 {digest[:12]}")
        entries.append({"name": name, "version": version, "sha256": digest})
    return entries


def _mixed_with_published(name: str, trained: Path, models: Path, trained_share: float) -> Path:
    from training import averaging

    mean = trained.with_name("mean.npz")
    folder = model_folder(models, name, published_version(models, name))
    save_weights(mean, averaging.mixed_with_published(name, trained, folder, trained_share))
    return mean


def fit_release(
    corpus: Corpus,
    folders: Sequence[Path],
    entries: Sequence[Mapping[str, Any]],
    stack_version: str,
    log: Log,
    *,
    turns: int = 1,
    others: Array | None = None,
    familiarity: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fit stack, bands, age and out-of-distribution score on the validation side; return ``stack.json``'s content.

    ``folders`` are those of the networks in ``entries``, in the same order.
    ``turns`` (1, 2, 4 or 8) is how many flips and turns the service will average by itself, for a network whose entry
    says nothing else under ``turns``; the stack is fitted to such averages. ``others`` are prepared squares of anything
    but lesions; without them ``familiarity`` stays, an earlier score of the same first network, or else nothing is
    refused as strange.
    """
    validation = corpus.positions("validation")
    of_each = list(turns_of({"networks": entries, "test_time_augmentation": turns}).values())
    answers = run_networks(folders, corpus.images.pixels, validation, turns=of_each, cache=corpus.cache, log=log)
    stack, record = fit_stack(answers.class_logits, corpus.allowed[validation], corpus.groups[validation])
    log(json.dumps(record))
    measured_on = f"validation side of the inner split, {len(validation)} images"
    age = _fit_age(corpus, stack_logit(stack, answers.class_logits))
    log(json.dumps({"age": age}) if age else "no age: known of too few people, or it says nothing beside the stack")
    strange = familiarity
    if others is not None and answers.embedding is not None:
        strange = _fit_strangeness(corpus, folders[0], others, log)
    return stack_json(
        stack,
        entries,
        version=stack_version,
        measured_on=measured_on,
        test_time_augmentation=turns,
        out_of_distribution=strange,
        metrics={},
        age=age,
    )


def _fit_age(corpus: Corpus, of_stack: Array) -> dict[str, Any] | None:
    """Fit the age to the stack's logits of the validation side, where ages are known and say something."""
    validation = corpus.positions("validation")
    years = ages([corpus.samples[i] for i in validation])
    term = fit_age(of_stack, years, corpus.malignant[validation], corpus.groups[validation])
    return age_json(term, f"validation side of the inner split, {np.isfinite(years).sum()} images of known age")


def _fit_strangeness(corpus: Corpus, folder: Path, others: Array, log: Log) -> dict[str, Any]:
    """Fit the out-of-distribution score on the first network's embedding.

    Uploads are not what training images are: sharper, in another light, framed otherwise. So lesions are learnt as
    they are and as another camera's, and the threshold is set by another camera's alone.
    """
    lesions = _of_every_source(corpus, corpus.positions("train"), _STRANGENESS_IMAGES)

    def embedding(pixels: Array, positions: Array, cache: Path | None = None) -> Array:
        found = run_networks([folder], pixels, positions, cache=cache, log=log).embedding
        assert found is not None
        return found

    def embedding_retaken(positions: Array, seed: int) -> Array:
        _, squares = retaken(corpus.photographs(positions), seed)
        return embedding(squares, np.arange(len(squares)))

    known = embedding(corpus.images.pixels, lesions, corpus.cache)
    return fit_familiarity(
        NETWORKS[0],
        np.concatenate([known, embedding_retaken(lesions, _RETAKEN_SEED)]),
        embedding(others, np.arange(len(others))),
        embedding_retaken(corpus.positions("validation"), _RETAKEN_SEED + 1),
    )


def _of_every_source(corpus: Corpus, positions: Array, most: int) -> Array:
    """Return about ``most`` of the positions from each source, spread evenly, or all that there are."""
    sources = np.array([corpus.samples[i].source for i in positions])
    of_each = (positions[sources == source] for source in np.unique(sources))
    return np.concatenate([some[:: max(len(some) // most, 1)] for some in of_each])
