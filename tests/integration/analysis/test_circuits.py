"""A network that leaves calls unanswered is not asked for a while, by nobody, and then first for its status."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine, event, text

from services.analysis.circuits import Circuits, CircuitState
from services.analysis.results import NETWORKS

NAME = "densenet121"
OTHERS = set(NETWORKS) - {NAME}


@pytest.fixture
def circuits(engine: Engine) -> Circuits:
    return Circuits(engine, failures=3, open_s=60)


def never() -> dict[str, bool]:
    raise AssertionError("nobody may be asked yet")


def fail(circuits: Circuits, times: int = 1) -> None:
    for _ in range(times):
        circuits.record(OTHERS, {NAME})


def time_is_over(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE circuit SET open_until = now() WHERE open_until IS NOT NULL"))


def test_all_circuits_are_closed_at_first(circuits: Circuits) -> None:
    assert circuits.states() == dict.fromkeys(NETWORKS, CircuitState.CLOSED)
    assert circuits.open_now(never) == ()


def test_failures_in_a_row_open_one_for_every_stacker(circuits: Circuits) -> None:
    fail(circuits, 2)
    assert circuits.open_now(never) == ()
    fail(replace(circuits))
    assert circuits.states()[NAME] is CircuitState.OPEN
    assert circuits.open_now(never) == (NAME,)


def test_an_answer_in_between_begins_the_count_anew(circuits: Circuits) -> None:
    fail(circuits, 2)
    circuits.record(NETWORKS, set())
    fail(circuits, 2)
    assert circuits.open_now(never) == ()


def test_while_nothing_fails_an_answer_is_not_written_down(circuits: Circuits, engine: Engine) -> None:
    said: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *call: said.append(call[2]))
    circuits.open_now(never)
    circuits.record(NETWORKS, set())
    assert [statement.split()[0] for statement in said] == ["SELECT"]


def test_what_another_stacker_saw_fail_since_the_last_look_is_taken_back_after_the_next(circuits: Circuits) -> None:
    circuits.open_now(never)
    fail(replace(circuits), 2)
    circuits.record(NETWORKS, set())
    circuits.open_now(never)
    circuits.record(NETWORKS, set())
    fail(replace(circuits), 2)
    assert circuits.open_now(never) == ()


def test_one_stacker_asks_for_the_status_and_a_good_one_lets_calls_through(circuits: Circuits, engine: Engine) -> None:
    fail(circuits, 3)
    time_is_over(engine)
    asked = []

    def away() -> dict[str, bool]:
        asked.append(1)
        assert circuits.open_now(never) == (NAME,), "another stacker does not ask at the same time"
        return dict.fromkeys(OTHERS, True)

    assert circuits.open_now(away) == (NAME,)
    assert asked == [1]
    time_is_over(engine)
    assert circuits.open_now(lambda: dict.fromkeys(NETWORKS, True)) == ()
    assert circuits.states()[NAME] is CircuitState.HALF_OPEN
    circuits.record(NETWORKS, set())
    assert circuits.states()[NAME] is CircuitState.CLOSED


def test_after_a_good_status_the_next_failure_opens_it_at_once(circuits: Circuits, engine: Engine) -> None:
    fail(circuits, 3)
    time_is_over(engine)
    circuits.open_now(lambda: dict.fromkeys(NETWORKS, True))
    fail(circuits)
    assert circuits.open_now(never) == (NAME,)


def test_an_answer_from_a_call_that_was_already_under_way_closes_nothing(circuits: Circuits) -> None:
    fail(circuits, 3)
    circuits.record(NETWORKS, set())
    assert circuits.open_now(never) == (NAME,)


def test_a_single_failure_may_be_enough(engine: Engine) -> None:
    circuits = Circuits(engine, failures=1, open_s=60)
    fail(circuits)
    assert circuits.open_now(never) == (NAME,)
