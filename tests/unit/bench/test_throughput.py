"""Answers a second: who is compared takes turns, and rests before each, and nobody is asked by too few clients."""

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from bench import load, measuring, peer, report, scaling, way
from bench.bare import SharedEnsemble
from bench.load import STRETCHES, Load
from serving import in_process
from serving.answers import ATTENTION_SIDE, CLASS_COUNT, NETWORKS, NetworkAnswer

STORED = json.loads(scaling.RESULTS.read_text())


@pytest.fixture
def course(monkeypatch):
    """What happened one after the other: rests, and whose clients sent for how long. Each client gets one answer."""
    happened = []

    def throughput(send, clients, seconds):
        send()
        happened[-1] = (happened[-1], clients, seconds)
        return Load(seconds, (0.1,) * clients, clients)

    for section in (peer, way):
        monkeypatch.setattr(section, "throughput", throughput)
    monkeypatch.setattr(measuring, "time", SimpleNamespace(sleep=lambda _: happened.append("rest")))
    return happened


def rested(course):
    """Whose stretches they were; all have rested before each."""
    assert course[::2] == ["rest"] * (len(course) // 2)
    return course[1::2]


def blocks(names):
    return [name for name, _ in itertools.groupby(names)]


def test_the_servers_take_turns(course):
    senders = {name: lambda name=name: course.append(name) for name in ("embedded", "litserve")}
    rates = peer.answers_per_s(senders, seconds=2.0)
    stretches = rested(course)
    assert sorted(stretches) == sorted(
        (name, n, 2.0) for name in senders for n in peer.CLIENTS for _ in range(STRETCHES)
    )
    assert len(blocks(name for name, *_ in stretches)) > 2 * STRETCHES
    assert rates == {str(n): {"embedded": n / 2, "litserve": n / 2} for n in peer.CLIENTS}


def test_uploads_are_compared_with_a_bare_engine_that_several_clients_ask_in_turns_with_them(course, monkeypatch):
    spent = itertools.count()
    monkeypatch.setattr(way, "_core_seconds", lambda _: {"networks": next(spent)})
    monkeypatch.setattr(way, "_another", lambda *_: nullcontext())
    told = way._crowds(None, lambda _: course.append("uploads"), lambda: course.append("bare"), [b"a"], 2.0)
    stretches = rested(course[: 2 * STRETCHES * (len(way.CLIENTS) + len(way.BARE_CLIENTS))])
    assert {n for name, n, _ in stretches if name == "bare"} == {1, 2, 4}
    assert len(blocks(name for name, *_ in stretches)) > 2 * STRETCHES
    assert told["bare_ensembles_per_s"] == {"1": 0.5, "2": 1.0, "4": 2.0}
    assert told["share_of_bare_throughput"] == 32 / 4
    # A core's second for each stretch of the crowd's eight uploads.
    assert told["core_ms_per_upload"] == {"networks": 125.0}


def test_stretches_are_put_together_answer_by_answer(monkeypatch):
    monkeypatch.setattr(measuring, "REST_S", 0.0)
    each = iter([Load(2.0, (0.1, 0.2, 0.3), sent=4), Load(3.0, (0.4,), sent=2)])
    got = load.in_stretches({"only": lambda: next(each)})["only"]
    assert (got.per_s, got.p50_s, got.p95_s, got.sent) == (4 / 5, 0.2, 0.4, 6)
    assert Load(3.0).p50_s == 3.0


class Engine:
    """A network that is busy with its first image until all clients have asked all networks."""

    version = 1

    def __init__(self, name, asked, all_asked):
        self.name, self._asked, self._all_asked = name, asked, all_asked

    @property
    def expected_s(self):
        if next(self._asked) == 4 * len(NETWORKS):
            self._all_asked.set()
        return 0.01

    def infer(self, images, go_on):
        assert self._all_asked.wait(2)
        assert go_on()
        count = len(images)
        shapes = {"class_logits": (CLASS_COUNT,), "attention": (ATTENTION_SIDE, ATTENTION_SIDE), "logit": ()}
        return {name: np.zeros((count, *shape), np.float32) for name, shape in shapes.items()}

    def settle(self):
        pass


def test_several_clients_ask_the_bare_engine_at_once(tmp_path, monkeypatch):
    asked, all_asked = itertools.count(1), threading.Event()

    def loaded(networks, *_, **__):
        for network in networks:
            network.engines[1] = Engine(network.name, asked, all_asked)

    monkeypatch.setattr(in_process, "load", loaded)
    for name in NETWORKS:
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "saved_model.pb").touch()
    image = np.zeros((1, 224, 224, 3), np.uint8)
    with (
        SharedEnsemble(tmp_path, dict.fromkeys(NETWORKS, 1), "f32", None, clients=4) as networks,
        ThreadPoolExecutor(4) as clients,
    ):
        answers = list(clients.map(lambda _: networks.ask_all(image, 60.0), range(4)))
    assert [[type(one) for one in answer] for answer in answers] == [[NetworkAnswer] * len(NETWORKS)] * 4


def test_the_page_is_that_of_the_last_measurement():
    assert report.markdown(STORED) == scaling.RESULTS.with_suffix(".md").read_text()


def test_the_page_tells_how_many_clients_asked_the_bare_engine_and_in_what_it_computed():
    bare = {"bare_ensembles_per_s": {"1": 31.0, "2": 33.0}}
    page = report.markdown(STORED | {"way": STORED["way"] | bare, "peer": STORED["peer"] | {"precision": "bf16"}})
    assert "| bare ensemble, 1 | 31.0 |\n| bare ensemble, 2 | 33.0 |" in page
    assert "## One call, and a peer (bf16)" in page
