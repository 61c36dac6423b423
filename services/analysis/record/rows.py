"""From rows to analyses, and what is written wherever an analysis ends."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select

from services.analysis import statements
from services.analysis.record.kinds import Analysis
from services.analysis.results import (
    CLASSES,
    NETWORKS,
    Band,
    Explanation,
    NetworkExplanation,
    NetworkOpinion,
    Reason,
    Result,
)
from services.analysis.statements import NO_LEASE, announcement
from services.analysis.states import TERMINAL_STATES, AnalysisState, Stage
from services.analysis.tables import AnalysisRow, DeadLetterRow
from services.analysis.webhooks import note_ended


def selected(connection: Connection, rows: Select[AnalysisRow]) -> list[Analysis]:
    """The analyses that a statement finds, in its order."""
    return with_opinions(connection, connection.execute(rows.with_only_columns(*AnalysisRow.__table__.columns)).all())


def with_opinions(connection: Connection, rows: Sequence[Row[Any]]) -> list[Analysis]:
    """The analyses of rows, in their order; those that are done with what the networks said."""
    done = [row.id for row in rows if row.state is AnalysisState.DONE]
    opinions: dict[uuid.UUID, list[NetworkOpinion]] = {analysis_id: [] for analysis_id in done}
    if done:
        predictions = connection.execute(statements.predicted(), {"analysis_ids": done}).all()
        for row in sorted(predictions, key=lambda row: NETWORKS.index(row.network)):
            opinions[row.analysis_id].append(NetworkOpinion(row.network, row.version, row.logit, row.probability))
    return [analysis_of(row, tuple(opinions.get(row.id, ()))) for row in rows]


def analysis_of(row: Row[Any], opinions: tuple[NetworkOpinion, ...]) -> Analysis:
    """One row as it is told, with what the networks said."""
    result = None
    if row.state is AnalysisState.DONE:
        result = Result(
            probability=row.probability,
            band=Band(row.band),
            networks=opinions,
            classes=tuple((name, float(row.classes[name])) for name in CLASSES),
            attention=tuple(tuple(float(x) for x in line) for line in row.attention),
            model_version=row.model_version,
            explanation=_explanation(row.explanation),
            without_age=row.without_age,
        )
    reason = None
    if row.state in TERMINAL_STATES and row.reason_code is not None:
        reason = Reason(row.reason_code, row.reason_sentence)
    return Analysis(
        id=row.id,
        state=row.state,
        created_at=row.created_at,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
        deliveries=row.deliveries,
        force=row.force,
        store=row.store,
        turns=row.turns,
        explain=row.explain,
        age_years=row.age_years,
        images_deleted_at=row.images_deleted_at,
        upload_digest=row.upload_digest,
        preparation=row.preparation,
        reason=reason,
        result=result,
        batch_id=row.batch_id,
        batch_position=row.batch_position,
    )


def _explanation(stored: Mapping[str, Any] | None) -> Explanation | None:
    if stored is None:
        return None
    networks = tuple(
        NetworkExplanation(
            name=network["name"],
            coefficient=network["coefficient"],
            contribution=network["contribution"],
            attention=tuple(tuple(float(x) for x in line) for line in network["attention"]),
        )
        for network in stored["networks"]
    )
    return Explanation(stored["intercept"], stored["low_below"], stored["high_from"], networks, stored.get("of_age"))


def refused(state: AnalysisState, reason: Reason) -> dict[str, Any]:
    """What is written to an analysis that ends without a result."""
    return {
        "state": state,
        "finished_at": func.now(),
        "updated_at": func.now(),
        "due_at": None,
        "reason_code": reason.code,
        "reason_sentence": reason.sentence,
        **NO_LEASE,
    }


def bury(connection: Connection, analysis_id: uuid.UUID, stage: Stage, reason: Reason, deliveries: int) -> None:
    """Keeps a dead letter: an analysis that failed on our side."""
    connection.execute(
        insert(DeadLetterRow).values(
            id=uuid.uuid4(),
            analysis_id=analysis_id,
            stage=stage.name,
            reason_code=reason.code,
            deliveries=deliveries,
        )
    )


def announce(connection: Connection, analysis_id: uuid.UUID) -> None:
    """Tells whoever waits that the analysis has changed."""
    connection.execute(select(announcement(str(analysis_id))))


def announce_end(connection: Connection, analysis_id: uuid.UUID) -> None:
    """Announces a change that may have been the last one, and notes what webhooks are to be told of it."""
    note_ended(connection, analysis_id)
    announce(connection, analysis_id)
