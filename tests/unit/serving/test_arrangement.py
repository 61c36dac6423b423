"""How networks share cores, and what the command line of the embedded server says."""

import pytest

from services.analysis.errors import SettingsError
from serving.client import target
from serving.embedded.engine import Arrangement, arrange
from serving.embedded.server import parse


@pytest.mark.parametrize(
    ("cores", "networks", "arrangement"),
    [
        (2, 4, Arrangement(threads=1, lanes=2)),
        (4, 4, Arrangement(threads=1, lanes=4)),
        (8, 4, Arrangement(threads=2, lanes=4)),
        (1, 4, Arrangement(threads=1, lanes=1)),
        (2, 1, Arrangement(threads=2, lanes=1)),
        (6, 4, Arrangement(threads=1, lanes=6)),
    ],
)
def test_a_core_for_each_network_first_then_threads(cores, networks, arrangement):
    assert arrange(cores, networks) == arrangement


def test_a_port_may_serve_one_network_or_several():
    options = parse(["--endpoint", "mobilenet=9001", "--endpoint", "densenet121,densenet169=9002", "--models", "/m"])
    assert options.endpoints == {9001: ("mobilenet",), 9002: ("densenet121", "densenet169")}
    assert str(options.folders["densenet169"]) == "/m/densenet169"


def test_a_port_that_is_named_twice_serves_the_networks_of_both():
    line = ["--endpoint", "mobilenet=9001", "--endpoint", "densenet121,mobilenet=9001"]
    assert parse(line).endpoints == {9001: ("mobilenet", "densenet121")}


def test_one_port_serves_every_model_given():
    options = parse(["--model", "a=/x/a", "--model", "b=/y", "--port", "9000", "--label", "a:stable=3"])
    assert options.endpoints == {9000: ("a", "b")}
    assert options.labels == {"a": {"stable": 3}}


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["--port", "9000"],
        ["--endpoint", "mobilenet"],
        ["--endpoint", "mobilenet=http"],
        ["--endpoint", "a=1", "--port", "2"],
        ["--model", "a=/x", "--port", "1", "--label", "stable=1"],
        ["--model", "a=/x", "--port", "1", "--versions", "newest"],
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused_with_a_sentence(line):
    with pytest.raises(SettingsError):
        parse(line)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("mobilenet:8500", "dns:///mobilenet:8500"),
        ("127.0.0.1:9001", "dns:///127.0.0.1:9001"),
        ("dns:///mobilenet.models.svc:8500", "dns:///mobilenet.models.svc:8500"),
        ("unix:/run/mobilenet.sock", "unix:/run/mobilenet.sock"),
    ],
)
def test_addresses_are_resolved_by_name_so_that_replicas_are_found(address, expected):
    assert target(address) == expected
