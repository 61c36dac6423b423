"""What is known about how well the present networks work, read from the `stack.json` they were exported with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Ranking:
    """AUC, 0–1, with its 95 % interval and the number of photographs, where those were recorded."""

    auc: float
    low: float | None
    high: float | None
    images: int | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Thresholds and measurements; what was not measured is None, and nothing is said about it.

    `metrics` is what `training.report.summary` keeps of measurements on photographs that neither networks nor stack had
    seen. What the thresholds were *fitted* for is not told: on the photographs they were fitted on it holds by
    construction, and says nothing about others.
    """

    version: str
    low_below: float
    high_from: float
    metrics: Mapping[str, Any]
    #: Whether the stack has learnt what a person's age means.
    counts_age: bool = False

    @property
    def missed_below(self) -> int | None:
        """How many of a hundred malignant spots still fell into the low band, rounded up."""
        measured = self._share_of_the_malignant("low")
        return None if measured is None else math.ceil(round(measured * 100, 6))

    def missed_below_at(self, age_years: int) -> int | None:
        """The same for people who told their age: of those of an age or of all, the larger share."""
        with_age = _inner(self.metrics, "with_age")
        groups = _inner(with_age, "malignant_low_by_age")
        of_the_age = None
        for group in groups if isinstance(groups, list) else []:
            if age_years >= (_number(group, "from_years") or 0):
                of_the_age = _number(group, "share")
        of_all = _number(_inner(with_age, "bands", "low"), "share_of_the_malignant")
        known = [share for share in (of_all, of_the_age) if share is not None]
        return math.ceil(round(max(known) * 100, 6)) if known else None

    @property
    def found_high(self) -> int | None:
        """How many of a hundred malignant spots fell into the high band, rounded down."""
        share = self._share_of_the_malignant("high")
        return None if share is None else math.floor(round(share * 100, 6))

    @property
    def images(self) -> int | None:
        """Photographs that were measured on."""
        return _count(self.metrics, "images")

    @property
    def malignant(self) -> int | None:
        """How many of those showed a malignant spot."""
        return _count(self.metrics, "malignant")

    def ranking(self, source: str | None = None) -> Ranking | None:
        """How well malignant and harmless are told apart, overall or on one source of photographs."""
        return self._ranking(_inner(self.metrics, "by_source", source) if source else self.metrics)

    def ranking_with_age(self) -> Ranking | None:
        """The same for photographs of people whose age is known, where it counts."""
        return self._ranking(_inner(self.metrics, "with_age"))

    @staticmethod
    def _ranking(measured: object) -> Ranking | None:
        auc = _number(measured, "auc")
        if auc is None:
            return None
        return Ranking(auc, _number(measured, "auc_low"), _number(measured, "auc_high"), _count(measured, "images"))

    def _share_of_the_malignant(self, band: str) -> float | None:
        return _number(_inner(self.metrics, "bands", band), "share_of_the_malignant")


def _inner(data: object, *names: str) -> object:
    for name in names:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def _number(data: object, name: str) -> float | None:
    value = _inner(data, name)
    return float(value) if isinstance(value, int | float) else None


def _count(data: object, name: str) -> int | None:
    value = _inner(data, name)
    return value if isinstance(value, int) else None


def read_evidence(models_dir: Path) -> Evidence | None:
    """What `models_dir/stack.json` says; None when there is none, because the pages have to open all the same."""
    path = models_dir / "stack.json"
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@lru_cache(maxsize=4)
def _read(path: Path, _changed_ns: int) -> Evidence:
    stack = json.loads(path.read_text())
    bands = stack["bands"]
    return Evidence(
        version=str(stack["version"]),
        low_below=float(bands["low_below"]),
        high_from=float(bands["high_from"]),
        metrics=stack.get("metrics") or {},
        counts_age=stack.get("age") is not None,
    )
