"""Which versions are served, and which one a request means."""

from types import SimpleNamespace

import pytest

from services.analysis.errors import SettingsError
from serving.embedded.versions import (
    Catalogue,
    Policy,
    Refusal,
    State,
    choose_versions,
    default_labels,
    open_network,
)
from serving.wire import ModelSpec


@pytest.fixture
def folder(tmp_path):
    for version in ("0", "1", "2", "10", "notes", ".3"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    (tmp_path / "11").mkdir()  # being copied: no model in it yet
    return tmp_path


@pytest.fixture
def catalogue(folder):
    network = open_network("mobilenet", folder, Policy.ALL, {})
    network.engines.update({version: SimpleNamespace(version=version) for version in network.versions})
    return Catalogue([network])


def spec(name: str = "mobilenet", version: int | None = None, label: str = "") -> ModelSpec:
    message = ModelSpec(name=name)
    if version is not None:
        message.version.value = version
    if label:
        message.version_label = label
    return message


def test_versions_are_numbers_and_10_is_newer_than_2(folder):
    assert choose_versions(folder, Policy.ALL) == [1, 2, 10]
    assert choose_versions(folder, Policy.LATEST) == [10]
    assert choose_versions(folder, frozenset({2, 1})) == [1, 2]


def test_a_version_that_is_not_there_stops_the_start(folder):
    with pytest.raises(SettingsError, match="no version 7"):
        choose_versions(folder, frozenset({7}))


def test_a_folder_without_a_model_stops_the_start(tmp_path):
    with pytest.raises(SettingsError, match="no version of a model"):
        choose_versions(tmp_path / "nowhere", Policy.LATEST)


def test_the_newest_of_several_versions_is_the_canary():
    assert default_labels([4]) == {"stable": 4}
    assert default_labels([4, 5, 6]) == {"stable": 5, "canary": 6}


def test_a_label_may_name_only_a_served_version(folder):
    with pytest.raises(SettingsError, match="'stable' names version 1"):
        open_network("mobilenet", folder, Policy.LATEST, {"stable": 1})


@pytest.mark.parametrize(
    ("asked", "version"),
    [(spec(), 10), (spec(version=0), 10), (spec(version=1), 1), (spec(label="stable"), 2), (spec(label="canary"), 10)],
)
def test_newest_number_or_label(catalogue, asked, version):
    assert catalogue.engine(asked).version == version


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        (spec(""), Refusal("INVALID_ARGUMENT", "ModelSpec has no name specified.")),
        (spec("resnet"), Refusal("NOT_FOUND", "Servable not found for request: Latest(resnet)")),
        (spec("resnet", 3), Refusal("NOT_FOUND", "Servable not found for request: Specific(resnet, 3)")),
        (spec(version=9), Refusal("NOT_FOUND", "Servable not found for request: Specific(mobilenet, 9)")),
        (spec("resnet", 0), Refusal("NOT_FOUND", "Servable not found for request: Latest(resnet)")),
        (spec(label="beta"), Refusal("INVALID_ARGUMENT", "Unrecognized servable version label: beta")),
        (spec("resnet", label="stable"), Refusal("INVALID_ARGUMENT", "Unrecognized servable version label: stable")),
    ],
)
def test_refusals_are_worded_as_tensorflow_serving_words_them(catalogue, asked, refusal):
    assert catalogue.engine(asked) == refusal


def test_a_version_that_still_loads_is_unavailable_not_unknown(folder):
    network = open_network("mobilenet", folder, Policy.LATEST, {})
    catalogue = Catalogue([network])
    assert catalogue.engine(spec()) == Refusal("UNAVAILABLE", "Latest(mobilenet) is still loading")
    assert catalogue.states(spec()) == {10: State.LOADING}


def test_states_of_one_version_of_all_and_of_none(catalogue):
    available = State.AVAILABLE
    assert catalogue.states(spec(version=2)) == {2: available}
    assert catalogue.states(spec()) == {1: available, 2: available, 10: available}
    assert catalogue.states(spec(version=9)) == Refusal("NOT_FOUND", "Could not find version 9 of model mobilenet")
    assert catalogue.states(spec("resnet")) == Refusal("NOT_FOUND", "Could not find any versions of model resnet")
