"""The door lets in what may wait, tells the others when to come back, and asks seldom."""

from __future__ import annotations

import threading

import pytest

from services.analysis.errors import DatabaseUnavailableError
from services.analysis.record import Pressure
from services.gateway import door as module
from services.gateway.door import MAX_RETRY_AFTER_S, Door, TooMuchWaitingError


class Record:
    """What waits, as the record would say it."""

    def __init__(self, waiting=0, oldest_s=0.0, finished_per_s=5.0):
        self.pressure = Pressure(waiting, oldest_s, finished_per_s)
        self.asked = 0

    def __call__(self):
        self.asked += 1
        if isinstance(self.pressure, Exception):
            raise self.pressure
        return self.pressure


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def lets_in(door, count=1):
    return sent_away_for(door, count) is None


def sent_away_for(door, count=1):
    """Seconds after which to come back; None for those who got in."""
    try:
        door.let_in(count)
    except TooMuchWaitingError as refusal:
        return refusal.retry_after_s
    return None


def test_it_lets_in_as_many_as_may_wait_and_no_more(clock):
    record = Record(waiting=7)
    door = Door(record, 10, 60)
    assert [lets_in(door) for _ in range(4)] == [True, True, True, False]
    assert record.asked == 1, "a refusal costs no question"


def test_threads_at_once_do_not_get_in_together(clock):
    door = Door(Record(), 50, 60)
    got_in = []

    def knock():
        if lets_in(door):
            got_in.append(1)

    threads = [threading.Thread(target=knock) for _ in range(80)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got_in) == 50


def test_retry_after_is_when_a_tenth_is_free_at_the_measured_pace(clock):
    # 100 wait; the door opens at 90: eleven must leave, five a second.
    assert sent_away_for(Door(Record(waiting=101, finished_per_s=5.0), 100, 60)) == 3
    assert sent_away_for(Door(Record(waiting=101, finished_per_s=0.5), 100, 60)) == 22
    assert sent_away_for(Door(Record(waiting=101, finished_per_s=0.0), 100, 60)) == MAX_RETRY_AFTER_S


def test_once_shut_it_opens_when_that_is_so(clock):
    record = Record(waiting=100)
    door = Door(record, 100, 60)
    assert not lets_in(door)
    for waiting, opens in ((95, False), (90, True)):
        record.pressure = Pressure(waiting, 0.0, 5.0)
        clock[0] += 1
        assert lets_in(door) == opens


def test_it_is_shut_too_while_the_oldest_waits_for_too_long(clock):
    record = Record(waiting=30, oldest_s=61.0, finished_per_s=2.0)
    door = Door(record, 100, 60)
    assert sent_away_for(door) == 15, "until all that waits now is done"
    record.pressure = Pressure(30, 59.0, 2.0)
    clock[0] += 1
    assert lets_in(door)


def test_a_batch_needs_all_its_places(clock):
    door = Door(Record(waiting=40), 50, 60)
    assert not lets_in(door, 11)
    assert lets_in(door, 10)


def test_a_batch_larger_than_all_places_gets_in_when_nobody_waits(clock):
    assert lets_in(Door(Record(waiting=0), 5, 60), 6)
    assert not lets_in(Door(Record(waiting=1), 5, 60), 6)


def test_without_the_database_nobody_gets_in_and_it_is_not_asked_for_each(clock):
    record = Record()
    record.pressure = DatabaseUnavailableError("away")
    door = Door(record, 10, 60)
    for _ in range(5):
        with pytest.raises(DatabaseUnavailableError):
            door.let_in(1)
    assert record.asked == 1
    door.check()  # whoever sent nonsense is told so, database or not
    record.pressure = Pressure(0, 0.0, 0.0)
    clock[0] += 1
    door.check()
