"""A data folder, ready to train on: prepared, cleaned, grouped and split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.analysis.errors import LesionLensError
from services.preprocessor.imaging.decode import decode
from services.preprocessor.imaging.outcomes import Rejection
from services.preprocessor.imaging.srgb import to_srgb
from training.datasets import DataFolder, NoImagesError, PreparedImages, default_cache, open_folder, prepare_images
from training.deduplication import Copy, clusters, find_copies, same_identifiers, superfluous
from training.samples import Sample
from training.splits import SPLITS, split_fingerprint, split_groups
from training.vocabulary import MALIGNANT, MALIGNANT_INDICES

Array = np.ndarray[Any, Any]

# Of the split; a constant, so that every network, the stack and every evaluation see the same sides.
SPLIT_SEED = 20260101


@dataclass(frozen=True, slots=True)
class Corpus:
    """Everything that training and evaluation need to know about a data folder.

    Attributes:
        folder: where the images were read from.
        samples: every sample, in the folder's order.
        images: their prepared squares.
        sides: index into ``SPLITS`` per sample; −1 where the sample is left out.
        groups: cluster number per sample.
        allowed: mask of permitted diagnoses, float ``[n,7]``.
        report: what was kept, what was dropped and why.
        cache: folder in which what was computed about these samples is kept.
    """

    folder: DataFolder
    samples: tuple[Sample, ...]
    images: PreparedImages
    sides: Array
    groups: Array
    allowed: Array
    report: dict[str, Any]
    cache: Path

    @property
    def malignant(self) -> Array:
        """Whether each sample is malignant, bool ``[n]``."""
        return np.asarray(self.allowed[:, list(MALIGNANT_INDICES)].max(axis=1) > 0)

    @property
    def split(self) -> str:
        """Fingerprint of which kept image stands on which side; one image more or less deals all of them anew."""
        kept = np.nonzero(self.sides >= 0)[0]
        names = [f"{self.samples[i].source}/{self.samples[i].image_id or self.samples[i].file}" for i in kept]
        return split_fingerprint(names, self.sides[kept])

    def photographs(self, positions: Array) -> Iterator[tuple[int, Array]]:
        """Yield position and photograph in sRGB before any correction, uint8 ``[h,w,3]``, of those that can be read."""
        for i in positions:
            photograph = decode(self.folder.read(self.samples[i]))
            if not isinstance(photograph, Rejection):
                yield int(i), to_srgb(photograph.rgb, photograph.profile)

    def positions(self, side: str) -> Array:
        """Return the positions of one side's samples."""
        return np.nonzero(self.sides == SPLITS.index(side))[0]


class OneKindError(LesionLensError):
    """Images are to be measured that are all malignant, or all benign."""

    problem = "one-kind"
    title = "Images of one kind cannot be measured"
    advice = (
        "Add images, malignant and benign: a tenth of the lesions and patients goes to the validation side and a sixth"
        " to the test side. Where only some images were asked for, ask for more."
    )


def refuse_one_kind(corpus: Corpus, positions: Array, side: str) -> None:
    """Refuse to measure images of one kind, before anything looks at them for long.

    Raises:
        OneKindError: none of the images at ``positions``, of that side, is malignant, or none is benign.
    """
    malignant = int(corpus.malignant[positions].sum())
    if not 0 < malignant < len(positions):
        raise OneKindError(
            f"{malignant} malignant and {len(positions) - malignant} benign images of the {side} side are measured"
        )


def open_corpus(data: Path, cache: Path | None = None, seed: int = SPLIT_SEED) -> Corpus:
    """Read, prepare, clean and split a data folder; everything but the reading is cached."""
    folder = open_folder(data)
    cache = cache or default_cache()
    images = prepare_images(folder, cache)
    copies = _cached_copies(images, cache)
    return build_corpus(folder, images, copies, seed, cache)


def _cached_copies(images: PreparedImages, cache: Path) -> list[Copy]:
    name = Path(str(getattr(images.pixels, "filename", "") or "prepared")).stem
    path = cache / f"{name}.copies.json"
    if path.exists():
        return [Copy(*row) for row in json.loads(path.read_text(encoding="utf-8"))]
    copies = find_copies(images.pixels, images.readable)
    path.write_text(json.dumps([[c.first, c.second, c.correlation] for c in copies]), encoding="utf-8")
    return copies


def build_corpus(folder: DataFolder, images: PreparedImages, copies: Sequence[Copy], seed: int, cache: Path) -> Corpus:
    """Apply vocabulary, cleaning and split.

    Raises:
        NoImagesError: nothing is left to split.
    """
    samples = folder.samples
    found = {(c.first, c.second) for c in copies}
    copies = [*copies, *(c for c in same_identifiers(samples) if (c.first, c.second) not in found)]
    dropped: dict[int, str] = superfluous(samples, copies, images.readable)
    for i, sample in enumerate(samples):
        if sample.term.reason:
            dropped[i] = sample.term.reason
        elif not images.readable[i]:
            dropped[i] = "the file cannot be read as an image"
    groups = clusters(samples, copies)
    kept = np.array([i for i in range(len(samples)) if i not in dropped], dtype=int)
    if not len(kept):
        why = "; ".join(sorted(set(dropped.values())))
        raise NoImagesError(f"none of the {len(samples)} images of {folder.root} can be used: {why}")
    strata = [
        f"{samples[i].source}/{samples[i].term.diagnosis or 'benign'}/{samples[i].term.diagnosis in MALIGNANT}"
        for i in kept
    ]
    sides = np.full(len(samples), -1)
    sides[kept] = split_groups(groups[kept], strata, seed)
    reasons = Counter(
        (samples[i].source, "copy of another image" if reason.startswith("copy of") else reason)
        for i, reason in dropped.items()
    )
    alone = Counter(samples[i].source for i in kept if not (samples[i].lesion_id or samples[i].patient_id))
    report = {
        "images": len(samples),
        "kept": len(kept),
        "of_no_known_lesion_or_patient": dict(sorted(alone.items())),
        "copies_found_by_pixels": len(found),
        "copies_by_identifier_alone": len(copies) - len(found),
        "dropped": [{"source": s, "reason": r, "images": n} for (s, r), n in sorted(reasons.items())],
        "sides": {name: int((sides == i).sum()) for i, name in enumerate(SPLITS)},
    }
    allowed = np.array([s.term.allowed for s in samples], dtype=np.float32)
    return Corpus(folder, samples, images, sides, groups, allowed, report, cache)
