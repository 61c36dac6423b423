"""Who may compute: never more than there are lanes, the longest first, nobody for ever."""

import threading
from concurrent import futures

import pytest

from serving.embedded.lanes import Admission, Lanes

PATIENCE_S = 10.0


def always() -> bool:
    return True


class Runner:
    """Runs in lanes until told to end, and remembers the order of starts."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.order: list[str] = []
        self.started: dict[str, threading.Event] = {}
        self.end: dict[str, threading.Event] = {}
        self._pool = futures.ThreadPoolExecutor(16)

    def start(self, network: str, expected_s: float = 0.0, name: str = "") -> futures.Future[Admission]:
        name = name or network
        self.started[name], self.end[name] = threading.Event(), threading.Event()

        def run() -> Admission:
            with self.lanes.enter(network, expected_s, always) as admission:
                if admission is Admission.ADMITTED:
                    self.order.append(name)
                    self.started[name].set()
                    assert self.end[name].wait(PATIENCE_S)
            return admission

        return self._pool.submit(run)

    def queue(self, network: str, expected_s: float = 0.0, name: str = "") -> futures.Future[Admission]:
        before = self.lanes.waiting().total()
        future = self.start(network, expected_s, name)
        wait_until(lambda: self.lanes.waiting().total() == before + 1)
        return future

    def close(self) -> None:
        for event in self.end.values():
            event.set()
        self._pool.shutdown()


def wait_until(holds) -> None:
    condition = threading.Condition()
    with condition:
        for _ in range(int(PATIENCE_S * 1000)):
            if holds():
                return
            condition.wait(0.001)
    raise TimeoutError


@pytest.fixture
def runner(request):
    runner = Runner(Lanes(*request.param))
    yield runner
    runner.close()


@pytest.mark.parametrize("runner", [(1, 4)], indirect=True)
def test_a_free_lane_goes_to_the_longest_of_those_that_came_together(runner):
    runner.start("mobilenet")
    assert runner.started["mobilenet"].wait(PATIENCE_S)
    runner.queue("nasnetmobile", 3.0)
    runner.queue("densenet169", 30.0)
    runner.queue("densenet121", 20.0)
    for event in runner.end.values():
        event.set()
    wait_until(lambda: len(runner.order) == 4)
    assert runner.order == ["mobilenet", "densenet169", "densenet121", "nasnetmobile"]


@pytest.mark.parametrize("runner", [(2, 4)], indirect=True)
def test_one_network_never_holds_two_lanes(runner):
    runner.start("densenet121", name="first")
    assert runner.started["first"].wait(PATIENCE_S)
    runner.queue("densenet121", 99.0, name="second")
    runner.start("mobilenet")
    assert runner.started["mobilenet"].wait(PATIENCE_S), "the free lane went to nobody"
    assert not runner.started["second"].is_set()
    runner.end["first"].set()
    assert runner.started["second"].wait(PATIENCE_S)


@pytest.mark.parametrize("runner", [(1, 2)], indirect=True)
def test_a_full_queue_refuses_at_once_and_only_for_that_network(runner):
    runner.start("densenet121", name="runs")
    assert runner.started["runs"].wait(PATIENCE_S)
    runner.queue("densenet121", name="waits 1")
    runner.queue("densenet121", name="waits 2")
    with runner.lanes.enter("densenet121", 0.0, always) as admission:
        assert admission is Admission.FULL
    runner.queue("mobilenet")
    assert runner.lanes.waiting() == {"densenet121": 2, "mobilenet": 1}


@pytest.mark.parametrize("runner", [(1, 4)], indirect=True)
def test_who_is_not_wanted_any_more_leaves_the_queue(runner):
    runner.start("densenet121")
    assert runner.started["densenet121"].wait(PATIENCE_S)
    wanted = threading.Event()
    wanted.set()

    def leave() -> Admission:
        with runner.lanes.enter("mobilenet", 0.0, wanted.is_set) as admission:
            return admission

    with futures.ThreadPoolExecutor(1) as pool:
        gone = pool.submit(leave)
        wait_until(lambda: runner.lanes.waiting().total() == 1)
        wanted.clear()
        runner.lanes.wake()
        assert gone.result(PATIENCE_S) is Admission.GONE
    assert not runner.lanes.waiting()


def test_a_failure_inside_gives_the_lane_back():
    lanes = Lanes(1, 1)
    with pytest.raises(ZeroDivisionError), lanes.enter("mobilenet", 0.0, always):
        raise ZeroDivisionError
    with lanes.enter("mobilenet", 0.0, always) as admission:
        assert admission is Admission.ADMITTED
