"""What ``lesionlens evaluate`` measures: stack, networks and groups of people on images that nothing was fitted to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.special import expit

from services.preprocessor.imaging import normalise
from services.stacker.age import AgeRegression
from services.stacker.out_of_distribution import Familiarity, familiarity_from
from services.stacker.turns import pose_of, turned
from training.age import age_from, stack_logit
from training.another_camera import from_another_camera, retaken, through_a_dermatoscope
from training.answers import Answers, run_networks
from training.corpus import Corpus
from training.evaluation import (
    AGE_GROUPS,
    ages,
    auc_gain,
    auc_with_interval,
    binary_measures,
    class_measures,
    flip_share,
    people,
    reliability,
)
from training.models_folder import model_folder
from training.stacking import Stack, malignant_logits, stack_from, turns_of
from training.surroundings import with_surroundings

Array = np.ndarray[Any, Any]
Log = Callable[[str], None]

# Test photographs that are turned to all eight sides.
_TURNED_IMAGES = 300

# Factors on a photograph's brightness, as another exposure would give.
_BRIGHTNESS = (0.9, 1.0, 1.1)

# Test pictures that are also looked at as another camera would have taken them: an AUC needs many.
_RETAKEN_IMAGES = 2000

# Test pictures that are also looked at through a dermatoscope, and with something drawn on or around them.
_DERMATOSCOPE_IMAGES = 1000
_DRAWN_IMAGES = 1000

# Sources whose pictures were taken through a dermatoscope; how anybody's own were taken is not known.
_DERMOSCOPY = ("ham10000", "bcn_20000", "msk", "isic_2019", "isic2017", "siim_isic2020", "isic_archive")

# Draws how each of them is taken.
_RETAKEN_SEED = 20261127

# Clusters with a malignant and with a benign image that a group must have to be measured: with fewer the interval says
# nothing.
_LEAST_OF_A_SIDE = 10


def measure(corpus: Corpus, models: Path, content: Mapping[str, Any], side: str, log: Log) -> dict[str, Any]:
    """Measure the stack, every network alone and their mean on one side of the split.

    Where the stack has an ``age``, the answers with it are measured too, as ``with_age``, on the images of known age.
    """
    positions = corpus.positions(side)
    folders = [model_folder(models, str(e["name"]), int(e["version"])) for e in content["networks"]]
    names = [str(e["name"]) for e in content["networks"]]
    stack = stack_from(content)
    turns = turns_of(content)
    of_each = list(turns.values())
    answers = run_networks(folders, corpus.images.pixels, positions, turns=of_each, cache=corpus.cache, log=log)
    logits = answers.class_logits
    malignant, allowed = corpus.malignant[positions], corpus.allowed[positions]
    clusters = corpus.groups[positions]
    probability = stack.probability(logits)
    scores = malignant_logits(logits)
    sources = np.array([corpus.samples[i].source for i in positions])
    result: dict[str, Any] = {
        "side": side,
        "turns": turns,
        "stack": binary_measures(probability, malignant, clusters),
        "classes": class_measures(stack.class_probabilities(logits), allowed),
        "alone": {n: _auc(scores[:, k], malignant, clusters) for k, n in enumerate(names)},
        "mean_of_logits": _auc(scores.mean(axis=1), malignant, clusters),
        "bands": _bands(stack, probability, malignant),
    }
    groups = {str(s): sources == s for s in np.unique(sources)}
    groups["dermoscopy"] = np.isin(sources, _DERMOSCOPY)
    result["by_source"] = _by_group(groups, probability, malignant, clusters)
    samples = [corpus.samples[i] for i in positions]
    result["by_person"] = _by_group(people(samples), probability, malignant, clusters)
    term = age_from(content.get("age"))
    if term is not None:
        result |= _with_age(corpus, positions, term, stack, logits)
    result["reliability"] = reliability(probability, malignant)
    familiarity = familiarity_from(content.get("out_of_distribution"))
    result |= _refused(familiarity, answers)
    result["turning"] = _turning(corpus, folders, stack, positions, log, turns=of_each)
    result["brightness"] = _brightness(corpus, folders, stack, positions, log, turns=of_each)
    otherwise = partial(
        _taken_otherwise,
        corpus,
        folders,
        stack,
        dict(zip(positions, probability, strict=True)),
        log,
        turns=of_each,
        familiarity=familiarity,
    )
    result["another_camera"] = otherwise(by=from_another_camera, most=_RETAKEN_IMAGES)
    result["dermatoscope"] = otherwise(by=through_a_dermatoscope, most=_DERMATOSCOPE_IMAGES)
    result["surroundings"] = otherwise(by=with_surroundings, most=_DRAWN_IMAGES)
    return result


def _by_group(
    groups: Mapping[str, Array], probability: Array, malignant: Array, clusters: Array
) -> dict[str, dict[str, float]]:
    """Measure every group that has enough of both sides for an interval to say something; count the others' images."""
    measured: dict[str, dict[str, float]] = {}
    for name, chosen in groups.items():
        if _are_enough(malignant[chosen], clusters[chosen]):
            measured[name] = binary_measures(probability[chosen], malignant[chosen], clusters[chosen])
        elif chosen.any():
            measured[name] = {"images": int(chosen.sum()), "malignant": int(malignant[chosen].sum())}
    return measured


def _are_enough(malignant: Array, clusters: Array) -> bool:
    return all(len(set(clusters[kind])) >= _LEAST_OF_A_SIDE for kind in (malignant, ~malignant))


def _with_age(
    corpus: Corpus, positions: Array, term: AgeRegression, stack: Stack, class_logits: Array
) -> dict[str, Any]:
    """Measure the answers with and without the age on the images whose age is known; nothing of too few of them."""
    years = ages([corpus.samples[i] for i in positions])
    known = ~np.isnan(years)
    years, positions, class_logits = years[known], positions[known], class_logits[..., known, :]
    malignant, clusters = corpus.malignant[positions], corpus.groups[positions]
    if not _are_enough(malignant, clusters):
        return {}
    logit = stack_logit(stack, class_logits)
    probability = {"without": expit(logit), "with": expit(term.logits(logit, years))}
    gain, low, high = auc_gain(probability["with"], probability["without"], malignant, clusters)
    part: dict[str, Any] = {
        "images": len(positions),
        **{name: binary_measures(each, malignant, clusters) for name, each in probability.items()},
        "auc_gain": {"auc": gain, "auc_low": low, "auc_high": high},
        "bands": _bands(stack, probability["with"], malignant),
    }
    groups = people([corpus.samples[i] for i in positions])
    part["by_age"] = {
        name: _of_an_age(groups[name], probability, stack.low_below, malignant, clusters)
        for name in AGE_GROUPS
        if groups[name].any()
    }
    return {"with_age": part}


def _of_an_age(
    chosen: Array, probability: Mapping[str, Array], low_below: float, malignant: Array, clusters: Array
) -> dict[str, Any]:
    """Measure each of the answers to people of an age by itself, where they are enough; else count their images."""
    malignant, clusters = malignant[chosen], clusters[chosen]
    counted: dict[str, Any] = {"images": len(malignant), "malignant": int(malignant.sum())}
    if not _are_enough(malignant, clusters):
        return counted
    measured = {
        name: {
            **_auc(answered[chosen], malignant, clusters),
            "probability": float(answered[chosen].mean()),
            "malignant_low": float((answered[chosen] < low_below)[malignant].mean()),
        }
        for name, answered in probability.items()
    }
    return {**counted, "malignant_share": float(malignant.mean()), **measured}


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


def _some(positions: Array, malignant: Array, most: int) -> Array:
    """Return about ``most`` of the positions, spread evenly; where all were of one kind, the few of the other too.

    ``malignant`` says for each of them what it is.
    """
    chosen = np.zeros(len(positions), np.bool_)
    chosen[:: max(len(positions) // most, 1)] = True
    for kind in (malignant, ~malignant):
        if not (chosen & kind).any():
            chosen |= kind
    return positions[chosen]


def _turning(
    corpus: Corpus, folders: Sequence[Path], stack: Stack, positions: Array, log: Log, *, turns: Sequence[int]
) -> dict[str, Any]:
    """Measure what turning the photograph, before any preparation, changes, and what looking from more sides gains.

    Beside the decisions that flip stands how many would if one look were taken the way the picture lies.
    """
    some = _some(positions, corpus.malignant[positions], _TURNED_IMAGES)
    # Pictures that are the same once they are in their pose are answered once.
    place: dict[bytes, int] = {}
    of_turns: list[list[int]] = [[] for _ in range(8)]
    read = []
    for position, rgb in corpus.photographs(some):
        read.append(position)
        lying = (np.rot90(held, k) for held in (rgb, rgb[:, ::-1]) for k in range(4))
        for pictures, view in zip(of_turns, lying, strict=True):
            tensor = normalise(np.ascontiguousarray(view)).tensor
            posed = turned(tensor, 1, pose_of(tensor))[0]
            pictures.append(place.setdefault(posed.tobytes(), len(place)))
    distinct = np.frombuffer(b"".join(place), np.uint8).reshape(len(place), *tensor.shape)
    answered = run_networks(folders, distinct, range(len(distinct)), turns=turns, log=log).class_logits[:, :, of_turns]
    in_eight = run_networks(folders, corpus.images.pixels, read, turns=8, cache=corpus.cache, log=log).class_logits
    malignant = corpus.malignant[read]

    def flips(logits: Array, threshold: float) -> float:
        """Return the share that flips, of class logits ``[turns,networks,photograph's turns,n,7]``."""
        return flip_share(np.array([stack.probability(logits[:, :, i]) for i in range(8)]), threshold)

    as_it_lies = in_eight[None].swapaxes(1, 2)
    return {
        "images": len(read),
        "flips_at_half": flips(answered, 0.5),
        "flips_at_high_band": flips(answered, stack.high_from),
        "flips_at_half_one_look": flips(answered[:1], 0.5),
        "flips_at_half_one_look_as_it_lies": flips(as_it_lies, 0.5),
        **{f"auc_{n}": auc_with_interval(stack.probability(in_eight[:n]), malignant)[0] for n in (1, 4, 8)},
    }


def _brightness(
    corpus: Corpus, folders: Sequence[Path], stack: Stack, positions: Array, log: Log, *, turns: Sequence[int]
) -> dict[str, Any]:
    """Measure how many decisions flip when the photograph, before any correction, is 10 % darker or brighter."""
    some = positions[:: max(len(positions) // _TURNED_IMAGES, 1)]
    squares = np.stack([_exposed(rgb) for _, rgb in corpus.photographs(some)], axis=1)
    probabilities = [
        stack.probability(run_networks(folders, exposed, range(len(exposed)), turns=turns, log=log).class_logits)
        for exposed in squares
    ]
    return {"images": squares.shape[1], "flips_at_half": flip_share(np.array(probabilities), 0.5)}


def _exposed(rgb: Array) -> Array:
    """Prepare a photograph as darker and brighter ones are, uint8 ``[exposures,224,224,3]``."""
    taken = [np.asarray(cv2.convertScaleAbs(rgb, alpha=factor), np.uint8) for factor in _BRIGHTNESS]
    return np.stack([normalise(exposure).tensor for exposure in taken])


def _taken_otherwise(
    corpus: Corpus,
    folders: Sequence[Path],
    stack: Stack,
    answered: Mapping[int, float],
    log: Log,
    *,
    turns: Sequence[int],
    familiarity: Familiarity | None,
    by: Callable[[Array, np.random.Generator], Array],
    most: int,
) -> dict[str, Any]:
    """Measure what is left of the AUC when each photograph is taken otherwise, what flips, and what is refused.

    ``answered`` are the probabilities of the photographs as they are, by position.
    """
    positions = np.array(list(answered))
    some = _some(positions, corpus.malignant[positions], most)
    read, squares = retaken(corpus.photographs(some), _RETAKEN_SEED, by)
    answers = run_networks(folders, squares, range(len(squares)), turns=turns, log=log)
    before, after = np.array([answered[i] for i in read]), stack.probability(answers.class_logits)
    malignant = corpus.malignant[read]
    return {
        "images": len(read),
        "auc_before": auc_with_interval(before, malignant)[0],
        **_auc(after, malignant, corpus.groups[read]),
        "flips_at_half": flip_share(np.array([before, after]), 0.5),
        **_refused(familiarity, answers),
    }


def _refused(familiarity: Familiarity | None, answers: Answers) -> dict[str, float]:
    """Share of images taken for something other than a lesion, where that is judged at all."""
    if familiarity is None or answers.embedding is None:
        return {}
    return {"refused_as_strange": float((familiarity.score(answers.embedding) > familiarity.threshold).mean())}


def _auc(score: Array, malignant: Array, clusters: Array) -> dict[str, float]:
    auc, low, high = auc_with_interval(score, malignant, clusters)
    return {"auc": auc, "auc_low": low, "auc_high": high}


def _bands(stack: Stack, probability: Array, malignant: Array) -> dict[str, dict[str, float]]:
    return {
        "low": _band(probability < stack.low_below, malignant),
        "unsure": _band((probability >= stack.low_below) & (probability < stack.high_from), malignant),
        "high": _band(probability >= stack.high_from, malignant),
    }


def _band(inside: Array, malignant: Array) -> dict[str, float]:
    return {
        "share": float(inside.mean()),
        "malignant_in_it": float(malignant[inside].mean()) if inside.any() else 0.0,
        "share_of_the_malignant": float(inside[malignant].mean()),
    }
