"""From trained weights to what the service ships: SavedModels, stack, measurements."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from services.preprocessor.imaging import normalise
from services.preprocessor.imaging.decode import decode
from services.preprocessor.imaging.outcomes import Rejection
from services.stacker.out_of_distribution import familiarity_from
from training.answers import run_networks, side_by_side
from training.corpus import Corpus
from training.evaluation import (
    auc_with_interval,
    binary_measures,
    class_measures,
    flip_share,
    people,
    reliability,
)
from training.networks import NETWORKS, SERVING_SIZE_PX, build_network, load_weights, save_weights
from training.out_of_distribution import fit_familiarity
from training.recipe import recipe_from
from training.stacking import Stack, fit_stack, malignant_logits, stack_from, stack_json, turns_of

Array = np.ndarray[Any, Any]
Log = Callable[[str], None]

# Pictures of lesions from each source that the out-of-distribution score is fitted on: a source of few pictures, as
# that of the phone photographs, is no stranger than one of many.
_STRANGENESS_IMAGES = 700

# Test pictures that are looked at in all eight turns.
_TURNED_IMAGES = 300

# Factors on a photograph's brightness, as another exposure would give.
_BRIGHTNESS = (0.9, 1.0, 1.1)

# Malignant and benign images that a group must have to be measured: with fewer the interval says nothing.
_LEAST_OF_A_SIDE = 10

# Validation pictures that decide at which size a network looks.
_SIZE_IMAGES = 500

# AUC that a larger picture must gain to be worth its time: less is noise with so many images.
_GAIN_OF_A_LARGER = 0.003

# A JSON list of plain numbers, spread over lines.
_NUMBERS = re.compile(r"\[\s+((?:-?[0-9.eE+-]+,?\s+)+)\]")


def model_folder(models: Path, name: str, version: int) -> Path:
    """Return where a network's SavedModel lies."""
    return models / name / str(version)


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


def published_version(models: Path, name: str) -> int:
    """Return the version of a network that the stack in ``models`` was fitted with."""
    return int(_published_entry(models, name)["version"])


def published_familiarity(models: Path) -> dict[str, Any] | None:
    """Return the out-of-distribution score in ``models``; it belongs to the first network there."""
    score = _published(models)["out_of_distribution"]
    return dict(score) if score else None


def _published(models: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((models / "stack.json").read_text(encoding="utf-8"))
    return content


def _published_entry(models: Path, name: str) -> dict[str, Any]:
    return next(dict(entry) for entry in _published(models)["networks"] if entry["name"] == name)


def export_all(
    corpus: Corpus,
    runs: Path,
    models: Path,
    version: int,
    log: Log,
    *,
    networks: Sequence[str] = NETWORKS,
    mean_with_published: bool = False,
) -> list[dict[str, Any]]:
    """Export ``networks`` and keep what is published of the others; return the entries of all for ``stack.json``.

    With ``mean_with_published`` the mean of the trained weights and the published ones is exported; it is kept beside
    the trained ones as ``mean.npz``.
    """
    entries = []
    for name in NETWORKS:
        if name not in networks:
            entries.append(_published_entry(models, name))
            continue
        weights = runs / name / "weights.npz"
        if mean_with_published:
            weights = _mean_with_published(name, weights, models)
        size = choose_size(corpus, name, weights, candidate_sizes(runs / name), log)
        digest = export_network(name, weights, size, model_folder(models, name, version))
        log(f"{name}: version {version} at {size} px, sha256 {digest[:12]}")
        entries.append({"name": name, "version": version, "sha256": digest})
    return entries


def _mean_with_published(name: str, trained: Path, models: Path) -> Path:
    from training import averaging

    mean = trained.with_name("mean.npz")
    folder = model_folder(models, name, published_version(models, name))
    save_weights(mean, averaging.mean_with_published(name, trained, folder))
    return mean


def fit_release(
    corpus: Corpus,
    models: Path,
    entries: Sequence[Mapping[str, Any]],
    stack_version: str,
    log: Log,
    *,
    turns: int = 1,
    others: Array | None = None,
    familiarity: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fit stack, bands and out-of-distribution score on the validation side; return ``stack.json``'s content.

    ``turns`` (1, 2, 4 or 8) is how many flips and turns the service will average by itself, for a network whose entry
    says nothing else under ``turns``; the stack is fitted to such averages. ``others`` are prepared squares of anything
    but lesions; without them ``familiarity`` stays, an earlier score of the same first network, or else nothing is
    refused as strange.
    """
    validation = corpus.positions("validation")
    folders = [model_folder(models, str(e["name"]), int(e["version"])) for e in entries]
    of_each = list(turns_of({"networks": entries, "test_time_augmentation": turns}).values())
    answers = run_networks(folders, corpus.images.pixels, validation, turns=of_each, cache=corpus.cache, log=log)
    stack, record = fit_stack(answers.class_logits, corpus.allowed[validation], corpus.groups[validation])
    log(json.dumps(record))
    strange = familiarity
    if others is not None and answers.embedding is not None:
        lesions = _of_every_source(corpus, corpus.positions("train"), _STRANGENESS_IMAGES)
        # The embedding is the first network's, so it alone is asked.
        known = run_networks(folders[:1], corpus.images.pixels, lesions, cache=corpus.cache, log=log).embedding
        unlike = run_networks(folders[:1], others, np.arange(len(others)), log=log).embedding
        assert known is not None
        assert unlike is not None
        strange = fit_familiarity(NETWORKS[0], known, unlike, answers.embedding)
    measured_on = f"validation side of the inner split, {len(validation)} images"
    return stack_json(
        stack,
        entries,
        version=stack_version,
        measured_on=measured_on,
        test_time_augmentation=turns,
        out_of_distribution=strange,
        metrics={},
    )


def _of_every_source(corpus: Corpus, positions: Array, most: int) -> Array:
    """Return about ``most`` of the positions from each source, spread evenly, or all that there are."""
    sources = np.array([corpus.samples[i].source for i in positions])
    of_each = (positions[sources == source] for source in np.unique(sources))
    return np.concatenate([some[:: max(len(some) // most, 1)] for some in of_each])


def measure(corpus: Corpus, models: Path, content: Mapping[str, Any], side: str, log: Log) -> dict[str, Any]:
    """Measure the stack, every network alone and their mean on one side of the split."""
    positions = corpus.positions(side)
    folders = [model_folder(models, str(e["name"]), int(e["version"])) for e in content["networks"]]
    names = [str(e["name"]) for e in content["networks"]]
    stack = stack_from(content)
    turns = turns_of(content)
    of_each = list(turns.values())
    answers = run_networks(folders, corpus.images.pixels, positions, turns=of_each, cache=corpus.cache, log=log)
    logits = answers.class_logits
    malignant, allowed = corpus.malignant[positions], corpus.allowed[positions]
    probability = stack.probability(logits)
    scores = malignant_logits(logits)
    sources = np.array([corpus.samples[i].source for i in positions])
    result: dict[str, Any] = {
        "side": side,
        "turns": turns,
        "stack": binary_measures(probability, malignant),
        "classes": class_measures(stack.class_probabilities(logits), allowed),
        "alone": {n: _auc(scores[:, k], malignant) for k, n in enumerate(names)},
        "mean_of_logits": _auc(scores.mean(axis=1), malignant),
        "bands": {
            "low": _band(probability < stack.low_below, malignant),
            "unsure": _band((probability >= stack.low_below) & (probability < stack.high_from), malignant),
            "high": _band(probability >= stack.high_from, malignant),
        },
    }
    groups = {str(s): sources == s for s in np.unique(sources)}
    groups["dermoscopy"] = sources != "pad_ufes_20"
    result["by_source"] = _by_group(groups, probability, malignant)
    samples = [corpus.samples[i] for i in positions]
    result["by_person"] = _by_group(people(samples), probability, malignant)
    result["reliability"] = reliability(probability, malignant)
    familiarity = familiarity_from(content.get("out_of_distribution"))
    if familiarity is not None and answers.embedding is not None:
        strange = familiarity.score(answers.embedding) > familiarity.threshold
        result["refused_as_strange"] = float(strange.mean())
    result["turning"] = _turning(corpus, folders, stack, positions, log, turns=of_each)
    result["brightness"] = _brightness(corpus, folders, stack, positions, log, turns=of_each)
    return result


def _by_group(groups: Mapping[str, Array], probability: Array, malignant: Array) -> dict[str, dict[str, float]]:
    """Measure every group that has enough of both sides for an interval to say something."""
    return {
        name: binary_measures(probability[chosen], malignant[chosen])
        for name, chosen in groups.items()
        if _LEAST_OF_A_SIDE <= malignant[chosen].sum() <= chosen.sum() - _LEAST_OF_A_SIDE
    }


def scores(corpus: Corpus, models: Path, content: Mapping[str, Any], side: str) -> tuple[dict[str, Array], Array]:
    """Return what the stack and every network alone answer on a side, ``[n]`` each, and whether each is malignant."""
    positions = corpus.positions(side)
    names = [str(e["name"]) for e in content["networks"]]
    folders = [model_folder(models, str(e["name"]), int(e["version"])) for e in content["networks"]]
    turns = list(turns_of(content).values())
    logits = run_networks(folders, corpus.images.pixels, positions, turns=turns, cache=corpus.cache).class_logits
    alone = malignant_logits(logits)
    of_each = {"stack": stack_from(content).probability(logits), **{n: alone[:, k] for k, n in enumerate(names)}}
    return of_each, corpus.malignant[positions]


def _turning(
    corpus: Corpus, folders: Sequence[Path], stack: Stack, positions: Array, log: Log, *, turns: Sequence[int]
) -> dict[str, Any]:
    """Measure what the eight turns change: decisions that flip, and what averaging over turns gains."""
    some = positions[:: max(len(positions) // _TURNED_IMAGES, 1)]
    logits = run_networks(folders, corpus.images.pixels, some, turns=8, cache=corpus.cache, log=log).class_logits
    malignant = corpus.malignant[some]
    single = np.array([stack.probability(v) for v in logits])

    def answered(turned: int, in_turns: Sequence[int]) -> Array:
        """Return the answer to the picture turned so.

        In the stacker's order every ``n`` turns in a row are those in which a network sees any one of them.
        """
        seen = [logits[turned // n * n :, k][:n] for k, n in enumerate(in_turns)]
        return stack.probability(side_by_side(seen))

    as_answered = np.array([answered(turned, turns) for turned in range(8)])
    in_four = np.array([answered(turned, [4] * len(folders)) for turned in range(8)])
    return {
        "images": len(some),
        "flips_at_half": flip_share(single, 0.5),
        "flips_at_high_band": flip_share(single, stack.high_from),
        "auc_1": _auc(single[0], malignant)["auc"],
        "auc_4": _auc(in_four[0], malignant)["auc"],
        "auc_8": _auc(stack.probability(logits), malignant)["auc"],
        "auc_1_mean_over_turns": float(np.mean([_auc(p, malignant)["auc"] for p in single])),
        "flips_at_half_as_answered": flip_share(as_answered, 0.5),
        "flips_at_half_tta_4": flip_share(in_four, 0.5),
    }


def _brightness(
    corpus: Corpus, folders: Sequence[Path], stack: Stack, positions: Array, log: Log, *, turns: Sequence[int]
) -> dict[str, Any]:
    """Measure how many decisions flip when the photograph, before any correction, is 10 % darker or brighter."""
    some = positions[:: max(len(positions) // _TURNED_IMAGES, 1)]
    photographs = [decode(corpus.folder.read(corpus.samples[i])) for i in some]
    read = [photograph.rgb for photograph in photographs if not isinstance(photograph, Rejection)]
    probabilities = []
    for factor in _BRIGHTNESS:
        squares = np.stack(
            [normalise(np.asarray(cv2.convertScaleAbs(rgb, alpha=factor), np.uint8)).tensor for rgb in read]
        )
        answers = run_networks(folders, squares, np.arange(len(squares)), turns=turns, log=log)
        probabilities.append(stack.probability(answers.class_logits))
    return {"images": len(read), "flips_at_half": flip_share(np.array(probabilities), 0.5)}


def _auc(score: Array, malignant: Array) -> dict[str, float]:
    auc, low, high = auc_with_interval(score, malignant)
    return {"auc": auc, "auc_low": low, "auc_high": high}


def _band(inside: Array, malignant: Array) -> dict[str, float]:
    return {
        "share": float(inside.mean()),
        "malignant_in_it": float(malignant[inside].mean()) if inside.any() else 0.0,
        "share_of_the_malignant": float(inside[malignant].mean()),
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    text = json.dumps(content, indent=1, ensure_ascii=False)
    # Rows of numbers on one line each: a quarter of the size, and a diff that can be read.
    text = _NUMBERS.sub(lambda row: f"[{', '.join(row[1].split())}]".replace(",,", ","), text)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def publish(source: Path, target: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Copy exported networks and ``stack.json`` to another models folder, replacing what lies there."""
    for entry in entries:
        folder = model_folder(target, str(entry["name"]), int(entry["version"]))
        if folder.exists():
            shutil.rmtree(folder)
        shutil.copytree(model_folder(source, str(entry["name"]), int(entry["version"])), folder)
    shutil.copy2(source / "stack.json", target / "stack.json")
