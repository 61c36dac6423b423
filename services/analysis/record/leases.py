"""Work on analyses under leases.

`claim` takes one, every later write names its token, and a write whose token is no longer in the row changes nothing
(`LeaseLostError`). So a task may be delivered twice, late, or to a worker that dies: the outcome is recorded exactly
once.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, CursorResult, select, update

from services.analysis import statements
from services.analysis.database import single_statement
from services.analysis.errors import LeaseLostError
from services.analysis.record.base import Record
from services.analysis.record.kinds import OUT_OF_TIME, TOO_MANY_DELIVERIES, Exhausted, Lease, NotClaimed
from services.analysis.record.rows import announce_end, bury, refused
from services.analysis.results import Reason, Result
from services.analysis.statements import NO_LEASE, claimable, in_seconds, too_late, under_lease
from services.analysis.states import AnalysisState, Stage
from services.analysis.tables import AnalysisRow


class Leases(Record):
    """How a worker takes an analysis, and what it records of it. Workers see every analysis."""

    def claim(
        self, analysis_id: uuid.UUID, stage: Stage, lease_s: float, max_deliveries: int
    ) -> Lease | NotClaimed | Exhausted:
        """Takes the analysis for `stage` for `lease_s` seconds, if it waits there or its last holder's lease ran out.

        The `max_deliveries + 1`-th try is not begun, nor one after the time in which the analysis must be answered: it
        is recorded as failed instead, and as a dead letter.
        """
        token = uuid.uuid4()
        with single_statement(self._engine) as connection:
            row = connection.execute(
                statements.claimed(stage),
                {
                    "analysis_id": analysis_id,
                    "token": token,
                    "lease_s": lease_s,
                    "max_deliveries": max_deliveries,
                },
            ).first()
            if row is not None:
                return Lease(
                    analysis_id,
                    stage,
                    token,
                    row.lease_until,
                    row.deliveries,
                    force=row.force,
                    store=row.store,
                    turns=row.turns,
                    time_left_s=None if row.time_left_s is None else float(row.time_left_s),
                    explain=row.explain,
                    age_years=row.age_years,
                )
        with self._transaction() as connection:
            hopeless = (AnalysisRow.deliveries >= max_deliveries, TOO_MANY_DELIVERIES), (too_late(), OUT_OF_TIME)
            for condition, reason in hopeless:
                exhausted = connection.execute(
                    update(AnalysisRow)
                    .where(claimable(analysis_id, stage), condition)
                    .values(**refused(AnalysisState.FAILED, reason))
                    .returning(AnalysisRow.store, AnalysisRow.deliveries)
                ).first()
                if exhausted is not None:
                    bury(connection, analysis_id, stage, reason, exhausted.deliveries)
                    announce_end(connection, analysis_id)
                    return Exhausted(store=exhausted.store, reason=reason)
        return NotClaimed()

    def advance(self, lease: Lease, preparation: Mapping[str, Any]) -> None:
        """Ends the preparation: the analysis waits for the stacker. Its tensor must be stored before."""
        with single_statement(self._engine) as connection:
            row = connection.execute(
                statements.advanced(),
                {
                    "analysis_id": lease.analysis_id,
                    "token": lease.token,
                    "new_preparation": dict(preparation),
                },
            ).first()
        if row is None:
            raise LeaseLostError

    def under_way(self, analysis_id: uuid.UUID) -> bool:
        """Whether a worker has the analysis or will have it: it is neither finished nor cancelled nor deleted."""
        with single_statement(self._engine) as connection:
            waits = select(AnalysisRow.id).where(AnalysisRow.id == analysis_id, AnalysisRow.due_at.is_not(None))
            return connection.execute(waits).first() is not None

    def reject(self, lease: Lease, reason: Reason) -> None:
        """Ends the analysis with an expected refusal: the photograph cannot be answered for."""
        self._write(lease, refused(AnalysisState.REJECTED, reason))

    def fail(self, lease: Lease, reason: Reason) -> None:
        """Ends the analysis with a failure on our side: a dead letter."""
        with self._transaction() as connection:
            _write_under_lease(connection, lease, refused(AnalysisState.FAILED, reason))
            bury(connection, lease.analysis_id, lease.stage, reason, lease.delivery)
            announce_end(connection, lease.analysis_id)

    def retry_later(self, lease: Lease, delay_s: float, *, counted: bool = True) -> None:
        """Gives the lease back; the sweeper rings again in `delay_s` seconds.

        The delivery stays counted, unless it was not the image's fault (`counted=False`). How long it has waited for
        its stage counts on either way.
        """
        uncounted = {} if counted else {"deliveries": AnalysisRow.deliveries - 1}
        self._write(lease, {"state": lease.stage.waiting, "due_at": in_seconds(delay_s), **uncounted, **NO_LEASE})

    def postpone(self, analysis_id: uuid.UUID, stage: Stage, delay_s: float) -> bool:
        """Has the sweeper ring again in `delay_s` seconds for what could be claimed for `stage` now.

        False, and nothing changed, when there is no such analysis, or when it must have been answered by now: then
        `claim` ends it.
        """
        with self._transaction() as connection:
            changed = connection.execute(
                update(AnalysisRow)
                .where(claimable(analysis_id, stage), ~too_late())
                .values(due_at=in_seconds(delay_s))
                .returning(AnalysisRow.id)
            ).first()
        return changed is not None

    def finish(self, lease: Lease, result: Result) -> None:
        """Ends the analysis with its result; row, four predictions and messages are one statement, one round trip."""
        networks = {
            "networks_network": [opinion.name for opinion in result.networks],
            "networks_version": [opinion.version for opinion in result.networks],
            "networks_logit": [opinion.logit for opinion in result.networks],
            "networks_probability": [opinion.probability for opinion in result.networks],
        }
        doubts = [{"code": doubt.code, "sentence": doubt.sentence, "soft": True} for doubt in result.doubts]
        with single_statement(self._engine) as connection:
            row = connection.execute(
                statements.finished(doubted=bool(doubts)),
                {
                    "analysis_id": lease.analysis_id,
                    "token": lease.token,
                    "new_probability": result.probability,
                    "new_band": result.band,
                    "new_classes": dict(result.classes),
                    "new_attention": [list(row) for row in result.attention],
                    "new_model_version": result.model_version,
                    "new_without_age": result.without_age,
                    "new_explanation": asdict(result.explanation) if result.explanation else None,
                    **networks,
                    **({"doubts": doubts} if doubts else {}),
                },
            ).first()
        if row is None:
            raise LeaseLostError

    def _write(self, lease: Lease, values: Mapping[str, Any]) -> None:
        with self._transaction() as connection:
            _write_under_lease(connection, lease, values)
            announce_end(connection, lease.analysis_id)


def _write_under_lease(connection: Connection, lease: Lease, values: Mapping[str, Any]) -> None:
    outcome: CursorResult[Any] = connection.execute(
        under_lease(values), {"analysis_id": lease.analysis_id, "token": lease.token}
    )
    if outcome.rowcount != 1:
        raise LeaseLostError
