"""Who may compute: never more than there are lanes, the longest first, nobody for ever, and two by two."""

import threading
from concurrent import futures

import numpy as np
import pytest

from serving.embedded.lanes import Lanes, Unanswered

PATIENCE_S = 10.0


def always() -> bool:
    return True


class Network:
    """Computes until it is told to end; answers with the first number of each image. `seen`: images of each run."""

    def __init__(self, name, order, expected_s=0.0):
        self.name = name
        self.expected_s = expected_s
        self.order = order
        self.seen = []
        self.started = threading.Event()
        self.end = threading.Event()

    def infer(self, images, go_on):
        self.seen.append(images[:, 0].tolist())
        self.order.append(self.name)
        self.started.set()
        assert self.end.wait(PATIENCE_S)
        return {"logit": images[:, 0] * 10} if go_on() else {}


class Runner:
    """Shows images to networks in lanes, each in a thread of its own."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.order: list[str] = []
        self.networks: list[Network] = []
        self._pool = futures.ThreadPoolExecutor(16)

    def network(self, name, expected_s=0.0):
        self.networks.append(Network(name, self.order, expected_s))
        return self.networks[-1]

    def start(self, network, *images, is_wanted=always):
        shown = np.asarray(images or (1,), np.float32)[:, None]
        return self._pool.submit(self.lanes.run, network, shown, is_wanted)

    def running(self, name):
        """A network that has a lane."""
        network = self.network(name)
        future = self.start(network)
        assert network.started.wait(PATIENCE_S)
        return network, future

    def queue(self, network, *images, is_wanted=always):
        before = self.lanes.waiting().total()
        future = self.start(network, *images, is_wanted=is_wanted)
        wait_until(lambda: self.lanes.waiting().total() == before + 1)
        return future

    def end_all(self):
        for network in self.networks:
            network.end.set()

    def close(self) -> None:
        self.end_all()
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


one_lane = pytest.mark.parametrize("runner", [(1, 4)], indirect=True)


@one_lane
def test_a_free_lane_goes_to_the_longest_of_those_that_came_together(runner):
    runner.running("mobilenet")
    runner.queue(runner.network("nasnetmobile", 3.0))
    runner.queue(runner.network("densenet169", 30.0))
    runner.queue(runner.network("densenet121", 20.0))
    runner.end_all()
    wait_until(lambda: len(runner.order) == 4)
    assert runner.order == ["mobilenet", "densenet169", "densenet121", "nasnetmobile"]


@one_lane
def test_what_shows_more_images_takes_longer(runner):
    runner.running("densenet121")
    runner.queue(runner.network("nasnetmobile", 3.0))
    runner.queue(runner.network("mobilenet", 1.0), 1, 2, 3, 4)
    runner.end_all()
    wait_until(lambda: len(runner.order) == 3)
    assert runner.order == ["densenet121", "mobilenet", "nasnetmobile"]


@pytest.mark.parametrize("runner", [(2, 4)], indirect=True)
def test_one_network_never_holds_two_lanes(runner):
    first, _ = runner.running("densenet121")
    second = runner.network("densenet121", 99.0)
    runner.queue(second)
    other, _ = runner.running("mobilenet")
    assert other.started.is_set(), "the free lane went to nobody"
    assert not second.started.is_set()
    first.end.set()
    assert second.started.wait(PATIENCE_S)


@pytest.mark.parametrize("runner", [(1, 2)], indirect=True)
def test_a_full_queue_refuses_at_once_and_only_for_that_network(runner):
    network, _ = runner.running("densenet121")
    runner.queue(network)
    runner.queue(network)
    assert runner.start(network).result(PATIENCE_S) is Unanswered.FULL
    runner.queue(runner.network("mobilenet"))
    assert runner.lanes.waiting() == {"densenet121": 2, "mobilenet": 1}


@one_lane
def test_who_is_not_wanted_any_more_leaves_the_queue(runner):
    runner.running("densenet121")
    wanted = threading.Event()
    wanted.set()
    network = runner.network("mobilenet")
    gone = runner.queue(network, is_wanted=wanted.is_set)
    wanted.clear()
    runner.lanes.wake()
    assert gone.result(PATIENCE_S) is Unanswered.GONE
    assert not runner.lanes.waiting()
    assert not network.seen


@one_lane
def test_two_odd_requests_are_one_run_and_each_gets_its_own_answers(runner):
    runner.running("densenet121")
    network = runner.network("nasnetmobile")
    three, even, one = runner.queue(network, 1, 2, 3), runner.queue(network, 4, 5), runner.queue(network, 6)
    runner.end_all()
    assert three.result(PATIENCE_S)["logit"].tolist() == [10, 20, 30]
    assert even.result(PATIENCE_S)["logit"].tolist() == [40, 50]
    assert one.result(PATIENCE_S)["logit"].tolist() == [60]
    assert network.seen == [[1, 2, 3, 6], [4, 5]]


@one_lane
def test_versions_of_a_network_are_never_looked_at_together(runner):
    runner.running("densenet121")
    old, new = runner.network("mobilenet"), runner.network("mobilenet")
    answers = runner.queue(old, 1), runner.queue(new, 2)
    runner.end_all()
    assert [answer.result(PATIENCE_S)["logit"].tolist() for answer in answers] == [[10], [20]]
    assert (old.seen, new.seen) == ([[1]], [[2]])


@one_lane
def test_a_pair_goes_on_while_one_of_both_is_wanted(runner):
    runner.running("densenet121")
    wanted = threading.Event()
    wanted.set()
    network = runner.network("nasnetmobile")
    leaves, stays = runner.queue(network, 1, is_wanted=wanted.is_set), runner.queue(network, 2)
    runner.networks[0].end.set()
    assert network.started.wait(PATIENCE_S)
    wanted.clear()
    network.end.set()
    assert stays.result(PATIENCE_S)["logit"].tolist() == [20]
    assert leaves.result(PATIENCE_S)["logit"].tolist() == [10]
    assert network.seen == [[1, 2]]


@one_lane
def test_a_failure_reaches_everybody_it_concerns_and_gives_the_lane_back(runner):
    runner.running("densenet121")
    broken = runner.network("nasnetmobile")
    broken.infer = lambda *_: 1 // 0
    answers = runner.queue(broken), runner.queue(broken)
    runner.end_all()
    for answer in answers:
        with pytest.raises(ZeroDivisionError):
            answer.result(PATIENCE_S)
    assert runner.start(runner.networks[0], 7).result(PATIENCE_S)["logit"].tolist() == [70]


def test_each_run_is_told_with_its_seconds():
    told = []
    lanes = Lanes(1, 1, lambda name, seconds: told.append((name, seconds)))
    network = Network("mobilenet", [])
    network.end.set()
    lanes.run(network, np.ones((1, 1), np.float32), always)
    assert [name for name, _ in told] == ["mobilenet"]
    assert told[0][1] > 0
