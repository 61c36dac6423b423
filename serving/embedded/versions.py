"""Which versions of which networks are served, and which one a request means.

The texts and codes of the refusals are TensorFlow Serving's (server_core.cc, basic_manager.cc).
"""

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.analysis.errors import SettingsError
from serving.embedded.engine import Engine
from serving.embedded.saved_model import versions_in
from serving.wire import Message


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request gets no answer: the name of a gRPC status code and a sentence."""

    code: str
    sentence: str


class State(enum.Enum):
    """Where a version is in its life; the values are TensorFlow Serving's."""

    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40


class Policy(enum.Enum):
    """Which of the versions in a folder are served."""

    LATEST = "latest"
    ALL = "all"


def choose_versions(folder: Path, wanted: Policy | frozenset[int]) -> list[int]:
    """Versions of `folder` to serve, oldest first. Raises SettingsError when a version asked for is not there."""
    found = versions_in(folder)
    if wanted is Policy.ALL:
        return found
    if wanted is Policy.LATEST:
        return found[-1:]
    if missing := wanted - set(found):
        raise SettingsError(f"{folder} has no version {min(missing)}; it has {found}")
    return sorted(wanted)


def default_labels(versions: list[int]) -> dict[str, int]:
    """`stable` and `canary` where nobody has set labels: the newest of several versions is the canary."""
    if len(versions) == 1:
        return {"stable": versions[0]}
    return {"stable": versions[-2], "canary": versions[-1]}


@dataclass(slots=True)
class Network:
    """The served versions of one network. Loaded by one thread at start, read by many."""

    name: str
    folder: Path
    versions: list[int]
    labels: dict[str, int]
    engines: dict[int, Engine] = field(default_factory=dict)

    def load(self, make_engine: Callable[[str, int, Path], Engine]) -> None:
        """Make and warm up an engine for each version; each is available as soon as it is warm."""
        for version in self.versions:
            engine = make_engine(self.name, version, self.folder / str(version))
            engine.warm_up()
            self.engines[version] = engine

    def state(self, version: int) -> State:
        """State of one of `versions`."""
        return State.AVAILABLE if version in self.engines else State.LOADING


def open_network(name: str, folder: Path, wanted: Policy | frozenset[int], labels: Mapping[str, int]) -> Network:
    """The network in `folder`, nothing loaded yet. Raises SettingsError for a version or label that cannot be."""
    versions = choose_versions(folder, wanted)
    for label, version in labels.items():
        if version not in versions:
            raise SettingsError(f"the label {label!r} names version {version} of {name}; served are {versions}")
    return Network(name, folder, versions, dict(labels) or default_labels(versions))


class Catalogue:
    """The networks of one endpoint."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = {network.name: network for network in networks}

    def __contains__(self, name: object) -> bool:
        return name in self._networks

    def engine(self, model_spec: Message) -> Engine | Refusal:
        """The engine a ModelSpec means: a version, a labelled version, or the newest one."""
        name = model_spec.name
        if not name:
            return Refusal("INVALID_ARGUMENT", "ModelSpec has no name specified.")
        network = self._networks.get(name)
        version = _asked_version(model_spec)
        if model_spec.WhichOneof("version_choice") == "version_label":
            label = model_spec.version_label
            if network is None or label not in network.labels:
                return Refusal("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
            version = network.labels[label]
        asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        if network is None or (version is not None and version not in network.versions):
            return Refusal("NOT_FOUND", f"Servable not found for request: {asked}")
        engine = network.engines.get(network.versions[-1] if version is None else version)
        # TensorFlow Serving opens its port only when all is loaded, so a caller would see UNAVAILABLE there too.
        return engine or Refusal("UNAVAILABLE", f"{asked} is still loading")

    def states(self, model_spec: Message) -> dict[int, State] | Refusal:
        """State of the version asked for, or of every version. A label is not looked at, as in TensorFlow Serving."""
        network = self._networks.get(model_spec.name)
        version = _asked_version(model_spec)
        if version is not None:
            if network is None or version not in network.versions:
                return Refusal("NOT_FOUND", f"Could not find version {version} of model {model_spec.name}")
            return {version: network.state(version)}
        if network is None:
            return Refusal("NOT_FOUND", f"Could not find any versions of model {model_spec.name}")
        return {version: network.state(version) for version in network.versions}


def _asked_version(model_spec: Message) -> int | None:
    """The version a ModelSpec names by number. 0 names none: it is how OpenVINO's clients ask for the newest."""
    if model_spec.WhichOneof("version_choice") != "version":
        return None
    return model_spec.version.value or None
