"""`make bench`: what is computed from the measurements."""

import itertools
import json
import re
import threading
import xml.etree.ElementTree as ET

import pytest

from bench import report, scaling
from bench.load import throughput
from bench.measuring import in_turns, quantile
from bench.model import Arrangement, Costs, simulate

COSTS = Costs(gateway=0.01, preprocessor=0.03, stacker=0.01, networks=(0.05, 0.045, 0.01, 0.01), other=0.005)


def test_everybody_has_as_many_turns_and_nobody_always_the_same_before_it():
    order = []

    def turn(name, seconds):
        return lambda: order.append(name) or seconds

    medians = in_turns({"a": turn("a", 1.0), "b": turn("b", 2.0), "c": turn("c", 3.0)}, rounds=8)
    assert medians == {"a": 1.0, "b": 2.0, "c": 3.0}
    rounds = list(zip(*[iter(order)] * 3, strict=True))
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    before = {pair for names in rounds for pair in itertools.pairwise(names)}
    assert before == set(itertools.permutations("abc", 2))


def test_a_quantile_is_a_value_that_was_measured():
    assert [quantile(range(1, 101), share) for share in (0.5, 0.95, 0.99, 1)] == [50, 95, 99, 100]
    assert quantile([7.0], 0.99) == 7.0


def test_clients_are_counted_and_a_failure_ends_the_run():
    counted = itertools.count()
    pause = threading.Event()
    got = throughput(lambda: (next(counted), pause.wait(0.01)), clients=2, seconds=0.3)
    assert 20 < got.per_s < 210
    assert 0.009 < got.p50_s <= got.p95_s
    assert got.sent == next(counted)
    with pytest.raises(ZeroDivisionError):
        throughput(lambda: 1 / 0, clients=2, seconds=0.1)


def test_one_client_waits_for_its_own_work_alone():
    rate, half, most = simulate(COSTS, Arrangement(1, 1, 1, cores=8), clients=1)
    # Two lanes, the longest first: 50 and 10 ms beside 45 and 10.
    assert (half, most) == pytest.approx((0.115, 0.115))
    assert rate == pytest.approx(1 / half)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_no_arrangement_exceeds_the_cores(workers):
    rate, *_ = simulate(COSTS, Arrangement(workers, workers, 1, cores=2), clients=16)
    assert 0.7 * 2 / COSTS.total < rate <= 2 / COSTS.total * 1.001


def test_with_cores_enough_another_stacker_helps_when_stackers_are_what_lacks():
    one, *_ = simulate(COSTS, Arrangement(4, 1, 4, cores=32), clients=16)
    two, *_ = simulate(COSTS, Arrangement(4, 2, 4, cores=32), clients=16)
    assert two > 1.7 * one


def test_a_section_that_was_not_measured_is_said_to_be_missing():
    told = report.markdown({})
    assert told.count("not measured") == 11
    assert ET.fromstring(report.plot({})).tag.endswith("svg")


def test_goals_are_compared_in_the_right_direction():
    machine = {"cores": 2, "memory_gb": 24, "architecture": "x86_64", "instructions": [], "load_before": 0.0}
    section = {
        "measured": "2026-11-24", "machine": machine, "idle_mb": {"gateway": 900}, "idle_mb_together": 900,
        "ready_s": {"first start": 20.0, "next start": 16.0},
    }  # fmt: skip
    lines = report.markdown({"footprint": section}).splitlines()
    assert next(line for line in lines if "idle memory" in line).endswith("| 900 | yes |")
    assert next(line for line in lines if "until ready" in line).endswith("| 16.0 | no |")


def test_the_tables_of_the_page_on_scale_are_those_of_the_last_measurement():
    way = json.loads(scaling.RESULTS.read_text())["way"]
    page = scaling.PAGE.read_text()
    assert scaling.filled(page, way) == page, "python -m bench.scaling"
    dearer = way | {"core_ms_per_upload": way["core_ms_per_upload"] | {"networks": 999.9}}
    assert "| networks | 999.9 |" in scaling.filled(page, dearer)


def test_what_the_page_says_beside_its_tables_follows_from_the_measurement():
    results = json.loads(scaling.RESULTS.read_text())
    page = scaling.PAGE.read_text()
    flop = results["networks"]["gflop_per_image"]
    looks = results["way"]["sides_looked_at"]
    core_ms = results["way"]["core_ms_per_upload"]
    prepared_s = (core_ms["preprocessor"] + core_ms["preprocessor's cell"]) / 1000

    assert f"({sum(flop[name] * looks[name] for name in looks) * 10_000 / 1000:.0f} TFLOP/s" in page
    (a_second,) = re.findall(r"preprocessors, one for every (\d+) images a second", page)
    assert 0.7 < int(a_second) * prepared_s < 0.85, "a preprocessor prepares one at a time"
