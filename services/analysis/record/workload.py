"""How much there is to do, and how quickly it gets less."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, func, select

from services.analysis.record.base import Record
from services.analysis.record.kinds import Backlog, Pressure
from services.analysis.statements import in_seconds
from services.analysis.states import STAGES, AnalysisState
from services.analysis.tables import AnalysisRow

#: Seconds over which it is measured how many analyses are finished.
PACE_WINDOW_S = 60.0


class Workload(Record):
    """Counts what waits."""

    def backlog(self) -> tuple[Backlog, ...]:
        """What waits for each stage now."""
        with self._transaction() as connection:
            rows = connection.execute(
                select(
                    AnalysisRow.state,
                    func.count(),
                    func.extract("epoch", func.now() - func.min(AnalysisRow.updated_at)),
                )
                .where(AnalysisRow.due_at.is_not(None))
                .group_by(AnalysisRow.state)
            ).all()
        by_state = {state: (int(count), float(age)) for state, count, age in rows}
        return tuple(Backlog(stage, *by_state.get(stage.waiting, (0, 0.0))) for stage in STAGES)

    def pressure(self) -> Pressure:
        """How much waits, for how long, and how quickly it gets less.

        The pace is measured since the oldest waiting analysis arrived: since then nobody was idle for want of work.
        """
        with self._transaction() as connection:
            waiting, oldest_s = connection.execute(
                select(
                    func.count(),
                    func.coalesce(
                        func.extract(
                            "epoch",
                            func.now() - func.min(AnalysisRow.updated_at).filter(_never_begun()),
                        ),
                        0.0,
                    ),
                ).where(AnalysisRow.due_at.is_not(None))
            ).one()
            window_s = min(max(float(oldest_s), PACE_WINDOW_S / 12), PACE_WINDOW_S)
            finished = connection.execute(
                select(func.count()).where(
                    AnalysisRow.finished_at > in_seconds(-window_s),
                    AnalysisRow.state != AnalysisState.DELETED,
                )
            ).scalar_one()
        return Pressure(int(waiting), max(0.0, float(oldest_s)), finished / window_s)


def _never_begun() -> ColumnElement[bool]:
    waits = AnalysisRow.state.in_([stage.waiting for stage in STAGES])
    return and_(waits, AnalysisRow.deliveries == 0)
