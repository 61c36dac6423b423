"""What a person at a terminal reads where a command cannot go on: what happened and what to do here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lesionlens.cli import main
from lesionlens.refusals import told
from services.analysis.errors import BlobStoreUnavailableError, SettingsError
from services.analysis.settings import load_settings

ROOT = Path(__file__).parents[3]

#: Nobody listens there.
NOWHERE = "postgresql://nobody@127.0.0.1:9/none"


def say(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(main, list(words), env={"DATABASE_URL": NOWHERE, "DATA_DIR": "/nowhere", **environment})


COMMANDS = [
    ["audit"],
    ["keys", "list"],
    ["dead-letters", "list"],
    ["feedback", "FOLDER"],
    ["backup", "FOLDER/monday.tar"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_database_that_does_not_answer_is_one_to_start_or_to_name(words: list[str], tmp_path: Path) -> None:
    done = say(*(word.replace("FOLDER", str(tmp_path)) for word in words), BLOB_STORE_URL=(tmp_path / "blobs").as_uri())

    assert done.exit_code == 1
    assert done.stderr == (
        "Error: The database does not answer. Start `make run` in this folder, or check DATABASE_URL.\n"
    )


@pytest.mark.parametrize(
    "words", [*COMMANDS, ["classify", "a.jpg"], ["run"], ["models", "list"]], ids=lambda words: words[0]
)
def test_a_wrong_setting_and_what_to_do_about_it_are_two_sentences(words: list[str]) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({"PORT": "many"})

    done = say(*words, PORT="many")

    assert done.exit_code != 0
    assert done.stderr.removeprefix("Error: ").startswith(f"{raised.value.detail}. ")


def test_an_image_store_that_does_not_answer_is_no_matter_of_the_database() -> None:
    assert told(BlobStoreUnavailableError("The image store does not answer.")) == (
        "The image store does not answer. Check BLOB_STORE_URL, and that you may write there."
    )


def test_an_age_that_would_not_count_is_refused_before_the_networks_are_loaded(tmp_path: Path) -> None:
    shipped = json.loads((ROOT / "serving" / "models" / "stack.json").read_text())
    (tmp_path / "stack.json").write_text(json.dumps({**shipped, "age": None}))
    (tmp_path / "a.jpg").write_bytes(b"")
    done = say("classify", str(tmp_path / "a.jpg"), "--age", "61", "--models", str(tmp_path))
    assert done.exit_code != 0
    assert done.stderr == "Error: These networks have not learnt what an age means. Leave --age out.\n"
