"""New networks step by step: what the labels name, which stack answers, and what is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lesionlens.cli import main
from services.analysis.results import CLASSES, NETWORKS
from serving.model_config import ModelConfig, read_config, write_config

CHANGED = {"densenet121": 2, "nasnetmobile": 2}


def stack(version: str, networks: dict[str, int], models: Path) -> str:
    return json.dumps(
        {
            "version": version,
            "networks": [
                {
                    "name": name,
                    "version": networks.get(name, 1),
                    "sha256": hashlib.sha256(
                        (models / name / str(networks.get(name, 1)) / "saved_model.pb").read_bytes()
                    ).hexdigest(),
                }
                for name in NETWORKS
            ],
            "malignant": {"coefficients": [0.25] * 4, "intercept": 0.0},
            "classes": {"names": list(CLASSES), "coefficients": [[0.0] * 28] * 7, "intercepts": [0.0] * 7},
            "bands": {
                "low_below": 0.2,
                "high_from": 0.6,
                "sensitivity_low": 0.95,
                "sensitivity_high": 0.9,
                "measured_on": "nothing",
            },
        }
    )


class Shelves:
    """A folder of networks and one of configurations, as they lie in serving/."""

    def __init__(self, folder: Path) -> None:
        self.models, self.configs = folder / "models", folder / "tensorflow-serving"
        self.configs.mkdir()
        for name in NETWORKS:
            for version in (1, 2):
                saved = self.models / name / str(version) / "saved_model.pb"
                saved.parent.mkdir(parents=True)
                saved.write_bytes(f"{name} {version}".encode())
            write_config(self.configs, ModelConfig(name, f"/models/{name}", (1,), {"stable": 1}))
        (self.models / "stack.json").write_text(stack("old", {}, self.models))

    def new_stack(self, networks: dict[str, int]) -> None:
        (self.models / "stack.canary.json").write_text(stack("new", networks, self.models))

    def say(self, *words: str) -> Result:
        return CliRunner().invoke(main, ["models", "--models", str(self.models), *words])

    def labels(self, network: str) -> dict[str, int]:
        return dict(read_config(self.configs, network).labels)

    def loaded(self, network: str) -> tuple[int, ...]:
        return read_config(self.configs, network).versions

    def answers(self) -> str:
        return str(json.loads((self.models / "stack.json").read_text())["version"])

    def everything(self) -> dict[str, bytes]:
        files = [*self.configs.iterdir(), *self.models.glob("*.json")]
        return {file.name: file.read_bytes() for file in files}


@pytest.fixture
def shelves(tmp_path: Path) -> Shelves:
    return Shelves(tmp_path)


def words(networks: dict[str, int]) -> list[str]:
    return [word for name, version in networks.items() for word in (name, str(version))]


def test_a_canary_is_loaded_beside_the_stable_one_and_nothing_is_answered_from_it(shelves: Shelves) -> None:
    done = shelves.say("promote", "--to", "canary", "densenet121", "2")

    assert done.exit_code == 0, done.output
    assert shelves.labels("densenet121") == {"stable": 1, "canary": 2}
    assert shelves.loaded("densenet121") == (1, 2)
    assert shelves.labels("mobilenet") == {"stable": 1}
    assert shelves.answers() == "old"


def test_networks_and_their_stack_go_forward_together_and_back_again(shelves: Shelves) -> None:
    before = shelves.everything()
    shelves.new_stack(CHANGED)
    assert shelves.say("promote", "--to", "canary", *words(CHANGED)).exit_code == 0

    assert shelves.say("promote", *words(CHANGED)).exit_code == 0
    assert shelves.answers() == "new"
    for name in CHANGED:
        assert shelves.labels(name) == {"stable": 2, "previous": 1}
        assert shelves.loaded(name) == (1, 2), "a stacker that was not restarted yet asks for the old version"

    back = shelves.say("rollback", *CHANGED)
    assert back.exit_code == 0, back.output
    assert shelves.answers() == "old"
    for name in CHANGED:
        assert shelves.labels(name) == {"stable": 1, "canary": 2}
        assert shelves.loaded(name) == (1, 2)

    assert shelves.say("rollback", *CHANGED).exit_code == 0
    (shelves.models / "stack.canary.json").unlink()
    assert shelves.everything() == before


def test_what_was_previous_is_unloaded_by_the_next_promotion(shelves: Shelves) -> None:
    third = shelves.models / "densenet121/3/saved_model.pb"
    third.parent.mkdir()
    third.write_bytes(b"densenet121 3")
    for version in ("2", "3"):
        shelves.new_stack({"densenet121": int(version)})
        assert shelves.say("promote", "--to", "canary", "densenet121", version).exit_code == 0
        assert shelves.say("promote", "densenet121", version).exit_code == 0

    assert shelves.labels("densenet121") == {"stable": 3, "previous": 2}
    assert shelves.loaded("densenet121") == (2, 3)


def _no_stack(shelves: Shelves) -> None:
    (shelves.models / "stack.canary.json").unlink()


def _other_file(shelves: Shelves) -> None:
    (shelves.models / "densenet121/2/saved_model.pb").write_bytes(b"trained again")


def _other_version(shelves: Shelves) -> None:
    shelves.new_stack({})


def _one_more(shelves: Shelves) -> None:
    shelves.new_stack({**CHANGED, "mobilenet": 2})


def _no_canary(shelves: Shelves) -> None:
    assert shelves.say("rollback", "densenet121").exit_code == 0


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_no_stack, "there is no"),
        (_other_file, "sha256"),
        (_other_version, "was fitted with densenet121 version 1"),
        (_one_more, "was fitted with mobilenet version 2"),
        (_no_canary, "densenet121 version 2 is not the canary"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(shelves: Shelves, spoil, why: str) -> None:
    shelves.new_stack(CHANGED)
    assert shelves.say("promote", "--to", "canary", *words(CHANGED)).exit_code == 0
    spoil(shelves)
    before = shelves.everything()

    done = shelves.say("promote", *words(CHANGED))

    assert done.exit_code == 1
    assert why in done.output
    assert shelves.everything() == before


def test_one_of_two_networks_that_change_together_is_refused(shelves: Shelves) -> None:
    shelves.new_stack(CHANGED)
    assert shelves.say("promote", "--to", "canary", *words(CHANGED)).exit_code == 0

    refused = shelves.say("promote", "densenet121", "2")
    assert refused.exit_code == 1
    assert "nasnetmobile version 2" in refused.output

    assert shelves.say("promote", *words(CHANGED)).exit_code == 0
    refused = shelves.say("rollback", "densenet121")
    assert refused.exit_code == 1
    assert shelves.answers() == "new"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (["promote", "--to", "canary", "densenet121", "7"], "there is no"),
        (["promote", "--to", "canary", "densenet121", "1"], "is the stable one already"),
        (["promote", "densenet121"], "needs a VERSION"),
        (["promote", "resnet", "2"], "is none of"),
        (["rollback", "densenet121"], "neither a canary nor a previous version"),
    ],
)
def test_what_cannot_be_is_said(shelves: Shelves, said: list[str], why: str) -> None:
    before = shelves.everything()

    done = shelves.say(*said)

    assert done.exit_code != 0
    assert why in done.output
    assert shelves.everything() == before


STEPS = [["promote", *words(CHANGED)], ["rollback", *CHANGED]]


@pytest.fixture(params=STEPS, ids=["promote", "rollback"])
def step(request: pytest.FixtureRequest, shelves: Shelves) -> list[str]:
    """A step that changes what answers, and everything that it stands on."""
    shelves.new_stack(CHANGED)
    assert shelves.say("promote", "--to", "canary", *words(CHANGED)).exit_code == 0
    said: list[str] = request.param
    if said[0] == "rollback":
        assert shelves.say("promote", *words(CHANGED)).exit_code == 0
    return said


def interrupted(after: int, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] = OSError) -> None:
    """Lets so many files take their place, and stops the next one."""
    replace, left = Path.replace, iter(range(after))

    def once_more(path: Path, target: Path) -> Path:
        if next(left, None) is None:
            raise error(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", once_more)


#: Two stacks and the labels of two networks.
FILES_MOVED = 4


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("after", range(FILES_MOVED))
def test_a_step_that_was_interrupted_is_finished_by_the_same_command(
    shelves: Shelves, step: list[str], after: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupted(after, patched, error)
        done = shelves.say(*step)

    assert done.exit_code == 1
    assert "Nothing was changed" not in done.output
    if error is OSError:
        assert "No space left on device. Not all was written; when that is put right, the same command" in done.output
    for entry in json.loads((shelves.models / "stack.json").read_text())["networks"]:
        assert entry["version"] in shelves.loaded(entry["name"]), "what a restarted stacker asks for"
    assert not [*shelves.models.glob(".*"), *shelves.configs.glob(".*")], "no half file is left"

    assert shelves.say(*step).exit_code == 0
    again = shelves.everything()
    there_and_back = STEPS if step[0] == "rollback" else STEPS[::-1]
    for other in there_and_back:
        assert shelves.say(*other).exit_code == 0
    assert shelves.everything() == again, "all labels and stacks are where they belong"


@pytest.mark.parametrize("after", [2, 3])
def test_a_step_that_was_interrupted_comes_before_any_other(
    shelves: Shelves, step: list[str], after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupted(after, patched)
        shelves.say(*step)
    before = shelves.everything()

    for other in [*STEPS, ["promote", "--to", "canary", "mobilenet", "2"]]:
        if other != step:
            refused = shelves.say(*other)
            assert f"an earlier step was interrupted; finish it first: lesionlens models {step[0]}" in refused.output
            assert shelves.everything() == before


def test_the_command_that_is_named_finishes_an_interrupted_step(
    shelves: Shelves, step: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupted(FILES_MOVED - 1, patched)
        shelves.say(*step)

    named = shelves.say("promote", "--to", "canary", "mobilenet", "2").output
    finishing = named.partition("lesionlens models ")[2].partition(".")[0].split()

    assert len(finishing) < len(step), "only one of two networks is left"
    assert shelves.say(*finishing).exit_code == 0
    assert {shelves.labels(name)["stable"] for name in CHANGED} == {2 if step[0] == "promote" else 1}


def test_a_canary_is_the_file_that_its_stack_was_fitted_with(shelves: Shelves) -> None:
    shelves.new_stack(CHANGED)
    _other_file(shelves)

    done = shelves.say("promote", "--to", "canary", "densenet121", "2")

    assert done.exit_code == 1
    assert "sha256" in done.output
    assert shelves.labels("densenet121") == {"stable": 1}


def test_the_list_names_labels_stacks_and_what_does_not_fit(shelves: Shelves) -> None:
    shelves.new_stack(CHANGED)
    assert shelves.say("promote", "--to", "canary", "densenet121", "2").exit_code == 0
    (shelves.models / "mobilenet/1/saved_model.pb").write_bytes(b"another")

    lines = shelves.say("list").output.splitlines()

    assert "densenet121  1  stable  stack.json" in lines
    assert "densenet121  2  canary  stack.canary.json" in lines
    assert "densenet169  2  not loaded  -" in lines
    assert any(
        line.startswith("mobilenet  1  stable") and "stack.json was fitted with another file" in line for line in lines
    )


def test_the_shipped_networks_are_those_of_the_shipped_stack(root: Path) -> None:
    done = CliRunner().invoke(main, ["models", "--models", str(root / "serving/models"), "list", "--json"])

    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["network"], line["labels"], line["stacks"], line["misfits"]) for line in told] == [
        (name, ["stable"], ["stack.json"], []) for name in NETWORKS
    ]


@pytest.fixture
def root() -> Path:
    return Path(__file__).parents[3]
