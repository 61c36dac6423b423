"""Find copies of an image, within and across sources, also turned, mirrored or at another resolution.

A perceptual hash finds candidates, a normalised correlation of the pixels confirms them. Copies, and images that
share a lesion or a patient, form one cluster that no split may cut.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from training.samples import Sample

# Bits (of 64) by which the hashes of two copies may differ. Recompression and rescaling move 0–6 of them.
HASH_DISTANCE = 10

# Least correlation of two 32 × 32 grey pictures that counts as the same photograph.
CONFIRMED_CORRELATION = 0.985

# The same when one of the two was squashed from 4:3 to a square before: the stretched middle is blurred and may be
# off by a pixel. Different lesions reach 0.97 at most.
CONFIRMED_SQUASHED_CORRELATION = 0.98

# Cameras frame 4:3; a copy squashed to a square shows the original's centre square in the middle 75 % of its width.
_SQUASHED_SHARE = 0.75

_HASH_INPUT_PX = 32
_COMPARED_PX = 32
_ROWS_AT_ONCE = 512

# Identifiers that name one image wherever they stand. Other numbers say nothing: two clinics both have an image "0".
_ISIC_ID = re.compile(r"ISIC_\d{7}")

# Candidates confirmed at once; two pictures of each are in memory, 8 kB.
_PAIRS_AT_ONCE = 8192


def turns(image: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Return the eight flips and right-angle turns of an image ``[h,w,…]``; the first is the image itself."""
    turned = [np.rot90(image, k) for k in range(4)]
    return turned + [np.flip(t, axis=1) for t in turned]


def perceptual_hash(grey: np.ndarray[Any, Any]) -> int:
    """Return the 64-bit DCT hash (pHash, Zauner 2010) of a grey picture ``[32,32]``."""
    spectrum = cv2.dct(np.ascontiguousarray(grey, dtype=np.float32))[:8, :8].ravel()
    bits = spectrum > np.median(spectrum[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _small_grey(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (_HASH_INPUT_PX, _HASH_INPUT_PX), interpolation=cv2.INTER_AREA)


def _standardised(grey: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    values = grey.astype(np.float32).ravel()
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)


@dataclass(frozen=True, slots=True)
class Copy:
    """Two positions of one photograph, ``first < second``, and the correlation of their pixels (≤ 1)."""

    first: int
    second: int
    correlation: float


def _squashed_middle(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    width = image.shape[1]
    margin = round(width * (1 - _SQUASHED_SHARE) / 2)
    return image[:, margin : width - margin]


def find_copies(pixels: np.ndarray[Any, Any], readable: np.ndarray[Any, Any] | None = None) -> list[Copy]:
    """Return every pair of copies among uint8 images ``[n,h,w,3]``: turned, mirrored, or squashed from 4:3.

    Only images that are ``readable`` (bool ``[n]``; default all) are compared: the others' squares are all alike.
    """
    positions = np.arange(len(pixels)) if readable is None else np.flatnonzero(readable)
    if not len(positions):
        return []
    whole = [_small_grey(pixels[i]) for i in positions]
    middle = [_small_grey(_squashed_middle(pixels[i])) for i in positions]
    hashes = np.array([perceptual_hash(g) for g in whole], dtype=np.uint64)
    upright = np.stack([_standardised(g) for g in whole])
    best: dict[tuple[int, int], float] = {}
    variants = [(whole, turn, CONFIRMED_CORRELATION) for turn in range(8)]
    variants += [(middle, turn, CONFIRMED_SQUASHED_CORRELATION) for turn in range(8)]
    for small, turn, threshold in variants:
        turned_grey = [turns(g)[turn] for g in small]
        turned_hashes = np.array([perceptual_hash(g) for g in turned_grey], dtype=np.uint64)
        turned = np.stack([_standardised(g) for g in turned_grey])
        for start in range(0, len(small), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            distance = np.bitwise_count(turned_hashes[rows, None] ^ hashes[None, :])
            left, right = np.nonzero(distance <= HASH_DISTANCE)
            left = left + start
            keep = left != right
            left, right = left[keep], right[keep]
            for first in range(0, len(left), _PAIRS_AT_ONCE):
                some, others = left[first : first + _PAIRS_AT_ONCE], right[first : first + _PAIRS_AT_ONCE]
                correlation = np.einsum("ij,ij->i", turned[some], upright[others])
                for i in np.nonzero(correlation >= threshold)[0]:
                    a, b = sorted((int(positions[some[i]]), int(positions[others[i]])))
                    best[a, b] = max(best.get((a, b), 0.0), float(correlation[i]))
    return [Copy(a, b, c) for (a, b), c in sorted(best.items())]


def same_identifiers(samples: Sequence[Sample]) -> list[Copy]:
    """Return pairs of samples that carry one id of the ISIC archive, with a correlation of one; no other id counts."""
    first: dict[str, int] = {}
    named = [(i, sample.image_id) for i, sample in enumerate(samples) if _ISIC_ID.fullmatch(sample.image_id)]
    return [Copy(first[name], i, 1.0) for i, name in named if first.setdefault(name, i) != i]


def clusters(samples: Sequence[Sample], copies: Sequence[Copy]) -> np.ndarray[Any, Any]:
    """Return one cluster number per sample: samples of one lesion, of one patient, or copies, share it."""
    parent = list(range(len(samples)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(i: int, j: int) -> None:
        a, b = root(i), root(j)
        parent[max(a, b)] = min(a, b)

    for copy in copies:
        join(copy.first, copy.second)
    seen: dict[tuple[str, str, str], int] = {}
    for i, sample in enumerate(samples):
        for kind, value in (("lesion", sample.lesion_id), ("patient", sample.patient_id)):
            if value:
                join(i, seen.setdefault((sample.source, kind, value), i))
    return np.array([root(i) for i in range(len(samples))])


def superfluous(
    samples: Sequence[Sample], copies: Sequence[Copy], readable: np.ndarray[Any, Any] | None = None
) -> dict[int, str]:
    """Return the positions to leave out and why: all but one of every set of copies, and all where labels disagree.

    Of agreeing copies one that can be used stays: it is ``readable`` (bool ``[n]``; default all) and its label says
    something. Among several the one with a lesion id does (the best documented), otherwise the first.
    """
    readable = np.ones(len(samples), np.bool_) if readable is None else readable
    usable = [sample.term.reason is None and good for sample, good in zip(samples, readable, strict=True)]
    linked: dict[int, set[int]] = defaultdict(set)
    group = clusters([Sample("", "", "", "", "")] * len(samples), copies)
    for copy in copies:
        linked[int(group[copy.first])].update((copy.first, copy.second))
    reasons: dict[int, str] = {}
    for members in linked.values():
        ordered = sorted(
            members,
            key=lambda i: (not usable[i], not samples[i].lesion_id, samples[i].source == "isic_archive", i),
        )
        allowed = {samples[i].term.allowed for i in ordered}
        known = [a for a in allowed if any(a)]
        agreed = np.prod(np.array(known), axis=0) if known else np.zeros(1)
        if not agreed.any():
            reasons.update((i, "copies of it carry another diagnosis") for i in ordered)
        else:
            reasons.update((i, f"copy of {samples[ordered[0]].image_id}") for i in ordered[1:])
    return reasons
