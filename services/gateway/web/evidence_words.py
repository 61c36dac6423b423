"""What is known about how well the networks work, in words and in numbers as the language writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask_babel import gettext as _

from services.gateway.web.evidence import Evidence, Ranking, read_evidence
from services.gateway.web.formats import number, percentage


def told_evidence(models_dir: Path) -> dict[str, Any]:
    """What templates get: the evidence itself, and its measures as rows of name and value."""
    evidence = read_evidence(models_dir)
    return {"evidence": evidence, "measures": _measures(evidence) if evidence else []}


def _measures(evidence: Evidence) -> list[tuple[str, str]]:
    """Measurements that were made, each with a name that says what it means."""
    wanted = (
        (_("Chance that a malignant spot is rated higher than a harmless one (AUC)"), evidence.ranking()),
        (_("The same for dermatoscope images alone"), evidence.ranking("dermoscopy")),
        (_("The same for phone photos alone"), evidence.ranking("pad_ufes_20")),
        (_("AUC for people of known age, with the age counted in"), evidence.ranking_with_age()),
    )
    return [(name, _with_interval(ranking)) for name, ranking in wanted if ranking is not None]


def _with_interval(ranking: Ranking) -> str:
    """The number, what it may be by chance, and on how many photographs: 94 % on 87 is less than 88 % on 2,275."""
    said = percentage(ranking.auc)
    if ranking.low is not None and ranking.high is not None:
        said += f" ({percentage(ranking.low)} – {percentage(ranking.high)})"
    return said if ranking.images is None else f"{said} · n = {number(ranking.images)}"
