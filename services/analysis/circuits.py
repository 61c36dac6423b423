"""A circuit breaker for each network (Nygard, "Release It!", 2007), shared by all stackers through PostgreSQL.

*Closed*: the network is asked. After `failures` calls in a row without an answer it is *open* for `open_s` seconds, and
nobody spends a delivery, a deadline or the other three networks' work on it. Then one stacker asks it for its status:
only when that is good is it asked about photographs again (*half-open*), and the next failure opens it at once.

It decides when to ask, never whom to leave out: while one circuit is open analyses wait.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import Engine, case, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from services.analysis.database import database_errors, single_statement
from services.analysis.results import NETWORKS
from services.analysis.tables import CircuitRow

_COUNTED = select(CircuitRow.network, CircuitRow.failures, CircuitRow.open_until.is_not(None))


class CircuitState(StrEnum):
    """What happens to a call."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


@dataclass(slots=True)
class Circuits:
    """Every method is one transaction and raises `DatabaseUnavailableError`."""

    engine: Engine
    #: Calls in a row without an answer that open a circuit.
    failures: int
    #: Seconds a circuit stays open before the network is asked for its status.
    open_s: float
    #: Networks that had failures when it was last looked, which is before each question: as long as nobody has any, an
    #: answer takes none back, and nothing is written. None: it was not looked since something was counted.
    _failing: set[str] | None = field(default=None, init=False)

    def states(self) -> Mapping[str, CircuitState]:
        """The state of each network's circuit, in the order of the networks."""
        with single_statement(self.engine) as connection:
            rows = connection.execute(_COUNTED).all()
        self._failing = {network for network, failures, _ in rows if failures}
        known = {network: self._state(failures, is_open=is_open) for network, failures, is_open in rows}
        return {network: known.get(network, CircuitState.CLOSED) for network in NETWORKS}

    def open_now(self, readiness: Callable[[], Mapping[str, bool]]) -> tuple[str, ...]:
        """Networks that must not be asked now. Where the time is over, one stacker asks `readiness`."""
        open_networks = tuple(name for name, state in self.states().items() if state is CircuitState.OPEN)
        if not open_networks:
            return ()
        mine = self._take_over_probing(open_networks)
        ready = readiness() if mine else {}
        back = [name for name in mine if ready.get(name, False)]
        if back:
            self._set_half_open(back)
            self._failing = None
        return tuple(name for name in open_networks if name not in back)

    def record(self, answered: Collection[str], unanswered: Collection[str]) -> None:
        """Counts what came of one question to the networks."""
        if not unanswered and self._failing is not None and self._failing.isdisjoint(answered):
            return
        self._failing = None
        closed = (
            update(CircuitRow)
            .where(CircuitRow.network.in_(answered), CircuitRow.failures > 0, CircuitRow.open_until.is_(None))
            .values(failures=0)
        )
        if not unanswered:
            with single_statement(self.engine) as connection:
                connection.execute(closed)
            return
        with database_errors(), self.engine.begin() as connection:
            connection.execute(closed)
            # In one order, so that two stackers cannot lock each other out.
            for network in sorted(unanswered):
                is_last = CircuitRow.failures + 1 >= self.failures
                until = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, self.open_s)
                connection.execute(
                    upsert(CircuitRow)
                    .values(network=network, failures=1, open_until=until if self.failures == 1 else None)
                    .on_conflict_do_update(
                        index_elements=["network"],
                        set_={"failures": CircuitRow.failures + 1, "open_until": case((is_last, until), else_=None)},
                    )
                )

    def _state(self, failures: int, *, is_open: bool) -> CircuitState:
        if is_open:
            return CircuitState.OPEN
        return CircuitState.HALF_OPEN if failures >= self.failures - 1 and failures > 0 else CircuitState.CLOSED

    def _take_over_probing(self, networks: Collection[str]) -> tuple[str, ...]:
        with database_errors(), self.engine.begin() as connection:
            rows = connection.execute(
                update(CircuitRow)
                .where(CircuitRow.network.in_(networks), CircuitRow.open_until <= func.now())
                .values(open_until=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, self.open_s))
                .returning(CircuitRow.network)
            ).scalars()
            return tuple(rows)

    def _set_half_open(self, networks: Collection[str]) -> None:
        with database_errors(), self.engine.begin() as connection:
            connection.execute(
                update(CircuitRow)
                .where(CircuitRow.network.in_(networks))
                .values(open_until=None, failures=max(0, self.failures - 1))
            )
