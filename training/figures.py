"""The evaluation's two figures, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from sklearn.metrics import roc_curve

mpl.use("svg")
from matplotlib import pyplot as plt

Array = np.ndarray[Any, Any]

# Text stays text and identifiers depend on the content alone, so that a figure changes only with its numbers.
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "lesionlens", "font.size": 9.0}

_SIZE_INCHES = (4.6, 4.2)


def draw_roc(scores: Mapping[str, Array], malignant: Array, file: Path) -> None:
    """Draw one ROC curve for each of ``scores`` (``[n]``, larger is more suspicious); the first one stands out."""
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=_SIZE_INCHES, layout="constrained")
        for k, (name, score) in enumerate(scores.items()):
            specificity, sensitivity, _ = roc_curve(malignant, score)
            axes.plot(specificity, sensitivity, label=name, linewidth=2.0 if k == 0 else 0.9)
        axes.set(xlabel="1 − specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="lower right", frameon=False)
        _save(figure, file)


def draw_reliability(bins: list[dict[str, float]], file: Path) -> None:
    """Draw how often a probability came true, from what :func:`training.evaluation.reliability` returned."""
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=_SIZE_INCHES, layout="constrained")
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.9, linestyle="--")
        axes.plot([b["probability"] for b in bins], [b["malignant"] for b in bins], marker="o", linewidth=1.5)
        for b in bins:
            axes.annotate(f"{b['images']:.0f}", (b["probability"], b["malignant"]), (5, -9), textcoords="offset points")
        axes.set(xlabel="probability answered", ylabel="share of malignant", xlim=(0, 1), ylim=(0, 1))
        _save(figure, file)


def _save(figure: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
