"""New networks in place of old ones, step by step and back again.

A network has up to three versions loaded: `stable`, which answers are made from; `canary`, which only the shadow asks;
and `previous`, which was stable before. To each of them belongs a stack: `stack.json`, `stack.canary.json` and
`stack.previous.json`. The stacker asks for the versions that `stack.json` names, whatever the labels say; so labels and
stack are moved together, and only where both fit. While they move, and until the stacker is restarted, the versions of
both stacks are loaded: no analysis meets a version that is gone.

The stack moves first, and the labels follow it. So a step that was interrupted can be told: `stable` names another
version than `stack.json`. The same command once more finishes it; any other is refused until then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.analysis.errors import ModelMismatchError
from services.analysis.results import NETWORKS
from services.stacker.stacking import CANARY_STACK_FILE, STACK_FILE, Stack, load_stack
from serving.embedded.saved_model import versions_in
from serving.model_config import CANARY, PREVIOUS, STABLE, ModelConfig, read_config, replace_file, write_config
from serving.model_files import checksum, network_file

#: The stack that answered before, beside the one that answers.
PREVIOUS_STACK_FILE = "stack.previous.json"

#: What a version that was stable is called once the one with this label is.
_BECOMES = {CANARY: PREVIOUS, PREVIOUS: CANARY}


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a network on this disk."""

    network: str
    version: int
    #: Labels that name it; none where it is not loaded.
    labels: tuple[str, ...]
    loaded: bool
    #: The stack files that were fitted with it.
    stacks: tuple[str, ...]
    #: Those of them that were fitted with another file of that number.
    misfits: tuple[str, ...]


class Shelf:
    """The networks and stacks in `models`, and what `configs` says is served of them."""

    def __init__(self, models: Path, configs: Path) -> None:
        self._models = models
        self._configs = configs

    def versions(self) -> Iterator[Version]:
        """Every version there is. Raises SettingsError for a network or configuration that is missing."""
        stacks = {
            name: load_stack(self._models / name)
            for name in (STACK_FILE, CANARY_STACK_FILE, PREVIOUS_STACK_FILE)
            if (self._models / name).exists()
        }
        for network in NETWORKS:
            config = read_config(self._configs, network)
            for version in versions_in(self._models / network):
                fitted = {
                    name: entry.sha256 == self._checksum(network, version)
                    for name, stack in stacks.items()
                    for entry in stack.networks
                    if (entry.name, entry.version) == (network, version)
                }
                yield Version(
                    network,
                    version,
                    tuple(sorted(label for label, named in config.labels.items() if named == version)),
                    version in config.versions,
                    tuple(fitted),
                    tuple(name for name, fits in fitted.items() if not fits),
                )

    def to_canary(self, wanted: Mapping[str, int]) -> None:
        """Load these versions beside the stable ones, for the shadow; an earlier canary is unloaded.

        Raises:
            ModelMismatchError: a version is not there, is the stable one, or is not what `stack.canary.json`, where
                there is one, was fitted with. Nothing is changed then.
        """
        configs = self._read(NETWORKS)
        self._refuse_interrupted(configs)
        stack = self._stack(CANARY_STACK_FILE) if (self._models / CANARY_STACK_FILE).exists() else None
        for network, version in wanted.items():
            if not network_file(self._models, network, version).is_file():
                raise ModelMismatchError(f"there is no {network_file(self._models, network, version)}")
            if version == configs[network].labels.get(STABLE):
                raise ModelMismatchError(f"{network} version {version} is the stable one already")
            if stack is not None:
                self._refuse_misfit(CANARY_STACK_FILE, stack, {network: version})
        for network, version in wanted.items():
            write_config(self._configs, configs[network].labelled({**configs[network].labels, CANARY: version}))

    def to_stable(self, wanted: Mapping[str, int]) -> None:
        """Answer from these versions: canaries become stable, `stack.canary.json` becomes `stack.json`.

        What an interrupted one has left to do is done.

        Raises:
            ModelMismatchError: a version is not the canary, or `stack.canary.json` is missing or was not fitted with
                just the versions that would then be stable. Nothing is changed then.
        """
        configs = self._read(NETWORKS)
        behind = self._behind(configs, CANARY)
        if behind and behind <= set(wanted) and wanted.items() <= self._answering().versions.items():
            self._refuse_misfit(STACK_FILE, self._answering(), wanted)
            self._move_labels(configs, behind, CANARY)
            return
        self._refuse_interrupted(configs)
        for network, version in wanted.items():
            if configs[network].labels.get(CANARY) != version:
                raise ModelMismatchError(f"{network} version {version} is not the canary; make it that first")
        after = {network: wanted.get(network, config.labels[STABLE]) for network, config in configs.items()}
        self._refuse_misfit(CANARY_STACK_FILE, self._stack(CANARY_STACK_FILE), after)
        self._move_stacks(CANARY_STACK_FILE, PREVIOUS_STACK_FILE)
        self._move_labels(configs, wanted, CANARY)

    def back(self, networks: Collection[str]) -> bool:
        """The last step of these networks taken back: a canary is unloaded, or else the previous version is stable.

        Returns whether what answers has changed; then what was stable is the canary again, and so is its stack. What an
        interrupted one has left to do is done.

        Raises:
            ModelMismatchError: there is no step to take back, or `stack.previous.json` was not fitted with just the
                versions that would then be stable. Nothing is changed then.
        """
        configs = self._read(NETWORKS)
        behind = self._behind(configs, PREVIOUS)
        moved = set(networks) - behind
        if behind and behind <= set(networks) and all(CANARY in configs[network].labels for network in moved):
            self._refuse_misfit(STACK_FILE, self._answering(), self._answering().versions)
            self._move_labels(configs, behind, PREVIOUS)
            return True
        self._refuse_interrupted(configs)
        canaries = [network for network in networks if CANARY in configs[network].labels]
        if canaries:
            if len(canaries) < len(networks):
                raise ModelMismatchError(f"only {', '.join(canaries)} has a canary; take that back first")
            for network in networks:
                labels = {label: v for label, v in configs[network].labels.items() if label != CANARY}
                write_config(self._configs, configs[network].labelled(labels))
            return False
        for network in networks:
            if PREVIOUS not in configs[network].labels:
                raise ModelMismatchError(f"{network} has neither a canary nor a previous version")
        canary = self._models / CANARY_STACK_FILE
        # One like stack.json is what an interrupted step back has left.
        if canary.exists() and canary.read_bytes() != (self._models / STACK_FILE).read_bytes():
            raise ModelMismatchError(f"{canary} is in the way: move it elsewhere first")
        after = {
            network: config.labels[PREVIOUS if network in networks else STABLE] for network, config in configs.items()
        }
        self._refuse_misfit(PREVIOUS_STACK_FILE, self._stack(PREVIOUS_STACK_FILE), after)
        self._move_stacks(PREVIOUS_STACK_FILE, CANARY_STACK_FILE)
        self._move_labels(configs, networks, PREVIOUS)
        return True

    def _move_stacks(self, new: str, kept_as: str) -> None:
        replace_file(self._models / kept_as, (self._models / STACK_FILE).read_bytes())
        (self._models / new).replace(self._models / STACK_FILE)

    def _move_labels(self, configs: Mapping[str, ModelConfig], networks: Iterable[str], label: str) -> None:
        """Makes stable what has this label, and labels what was stable."""
        for network in networks:
            old = configs[network].labels
            labels = {STABLE: old[label], _BECOMES[label]: old[STABLE]}
            write_config(self._configs, configs[network].labelled(labels))

    def _behind(self, configs: Mapping[str, ModelConfig], label: str) -> set[str]:
        """Networks whose labels have not followed the stack yet: what it names is not `stable`, but has this label."""
        return {
            network
            for network, version in self._answering().versions.items()
            if version != configs[network].labels[STABLE] and version == configs[network].labels.get(label)
        }

    def _refuse_interrupted(self, configs: Mapping[str, ModelConfig]) -> None:
        versions = self._answering().versions
        if promoted := self._behind(configs, CANARY):
            words = ["promote", *(f"{network} {versions[network]}" for network in sorted(promoted))]
        elif back := self._behind(configs, PREVIOUS):
            words = ["rollback", *sorted(back)]
        else:
            return
        raise ModelMismatchError(
            f"an earlier step was interrupted; finish it first: lesionlens models {' '.join(words)}"
        )

    def _answering(self) -> Stack:
        return load_stack(self._models / STACK_FILE)

    def _read(self, networks: Collection[str]) -> dict[str, ModelConfig]:
        configs = {network: read_config(self._configs, network) for network in networks}
        for network, config in configs.items():
            if STABLE not in config.labels:
                raise ModelMismatchError(f"no version of {network} is labelled {STABLE!r}")
        return configs

    def _stack(self, name: str) -> Stack:
        if not (self._models / name).exists():
            raise ModelMismatchError(f"there is no {self._models / name}, the stack fitted with these versions")
        return load_stack(self._models / name)

    def _refuse_misfit(self, name: str, stack: Stack, after: Mapping[str, int]) -> None:
        for entry in stack.networks:
            version = after.get(entry.name, entry.version)
            if version != entry.version:
                raise ModelMismatchError(
                    f"{name} was fitted with {entry.name} version {entry.version}, and version {version} would stand"
                    " beside it; name all the networks that change together"
                )
            if entry.name in after and self._checksum(entry.name, version) != entry.sha256:
                file = network_file(self._models, entry.name, version)
                raise ModelMismatchError(f"{name} was fitted with another file than {file} (sha256)")

    def _checksum(self, network: str, version: int) -> str:
        file = network_file(self._models, network, version)
        try:
            return checksum(file)
        except OSError as error:
            raise ModelMismatchError(f"{file} cannot be read: {error}") from error
