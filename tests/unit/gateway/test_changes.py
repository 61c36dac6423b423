"""Who waits for the end of an analysis is not woken for what happens before it."""

import os
import queue
import threading
import uuid

import pytest

from services.analysis.statements import GOES_ON
from services.gateway import changes as module
from services.gateway.changes import Changes

PATIENCE_S = 30


@pytest.fixture
def changes(monkeypatch):
    monkeypatch.setattr(module, "LOOK_ANYWAY_S", PATIENCE_S)
    changes = Changes("postgresql://nobody@localhost/none", max_waiters=4)
    changes._listening_in = os.getpid()  # what PostgreSQL would announce, the tests announce
    yield changes
    changes.stop()


class Waiter:
    """Waits in a thread; `looks` gets an entry for each look, and the look's outcome is taken from `answers`."""

    def __init__(self, changes, analysis_id, **how):
        self.looks, self.answers, self.result = queue.Queue(), queue.Queue(), queue.Queue()

        def look():
            self.looks.put("looked")
            return self.answers.get(timeout=PATIENCE_S)

        def wait():
            self.result.put(changes.wait_until(analysis_id, look, "the end".__eq__, PATIENCE_S, **how))

        self.thread = threading.Thread(target=wait, daemon=True)
        self.thread.start()

    def looked(self):
        return self.looks.get(timeout=PATIENCE_S)


@pytest.mark.parametrize("only_its_end", [True, False])
def test_a_step_on_the_way_wakes_only_whoever_waits_for_any_change(changes, only_its_end):
    analysis_id = str(uuid.uuid4())
    waiter = Waiter(changes, analysis_id, only_its_end=only_its_end)
    waiter.looked()
    waiter.answers.put("on the way")
    while not changes.waiting:
        pass
    changes._wake(f"{analysis_id}{GOES_ON}")
    if not only_its_end:
        waiter.looked()
        waiter.answers.put("on the way")
    changes._wake(str(uuid.uuid4()))
    changes._wake(analysis_id)
    waiter.looked()
    waiter.answers.put("the end")
    assert waiter.result.get(timeout=PATIENCE_S) == ("the end", True)
    assert waiter.looks.empty()
    assert changes.waiting == 0


def test_what_was_seen_a_moment_ago_is_not_looked_at_again(changes):
    looks = ["another end"]
    assert changes.wait_until("an id", looks.pop, "the end".__eq__, PATIENCE_S, seen="the end") == ("the end", True)
    assert changes.wait_until("an id", looks.pop, "the end".__eq__, 0, seen="on the way") == ("on the way", False)
    assert looks == ["another end"]


def test_without_time_to_wait_it_is_looked_at_once(changes):
    looks = ["on the way", "the end"]
    assert changes.wait_until("an id", lambda: looks.pop(0), "the end".__eq__, 0) == ("on the way", False)
