"""The table of `classify` and `submit`: every file has its row, whatever its name, or it is said why there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lesionlens.cli import main
from lesionlens.outcomes import Classified
from services.analysis.states import AnalysisState


class Networks:
    """Reads nothing, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Path] = []
        self.loaded = False

    def classify(self, file: Path, *, force: bool) -> Classified:
        self.asked.append(file)
        return Classified(str(file), AnalysisState.REJECTED, readable=False, reason="not_an_image")

    @contextmanager
    def load(self, _models: Path | None, _turns: int | None, _age_years: int | None) -> Iterator[Networks]:
        self.loaded = True
        yield self


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> Networks:
    networks = Networks()
    monkeypatch.setattr("lesionlens.cli._pipeline", networks.load)
    return networks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in (b"a\xff.jpg", b"b.jpg"):
        (folder / os.fsdecode(name)).write_bytes(b"")
    return folder


def say(*words: object) -> Result:
    return CliRunner().invoke(main, [*map(str, words)])


@pytest.mark.usefixtures("networks")
@pytest.mark.parametrize("to_file", [True, False], ids=["--csv", "standard output"])
def test_a_name_that_is_not_utf_8_is_written_as_it_is_and_the_rest_is_written_too(
    folder: Path, tmp_path: Path, to_file: bool
) -> None:
    path = tmp_path / "out.csv"
    done = say("classify", folder, *(["--csv", path] if to_file else []))

    assert isinstance(done.exception, SystemExit), "a sentence, not a traceback"
    table = path.read_bytes() if to_file else done.stdout_bytes
    assert [row.split(b",")[0] for row in table.splitlines()[1:]] == [
        bytes(folder) + b"/a\xff.jpg",
        bytes(folder) + b"/b.jpg",
    ]


def test_a_table_that_cannot_be_written_is_said_before_the_work_begins(
    networks: Networks, folder: Path, tmp_path: Path
) -> None:
    for command in ("classify", "submit"):
        done = say(command, folder, "--csv", tmp_path / "missing" / "out.csv")

        assert done.exit_code == 1
        assert done.stderr.endswith(
            "out.csv cannot be written: No such file or directory."
            " Name a file in a folder that exists and that you may write to.\n"
        )
    assert not networks.loaded


def test_a_table_of_before_stays_where_nothing_can_be_classified(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("of yesterday")

    done = say("classify", folder, "--csv", path, "--models", tmp_path)

    assert "stack.json" in done.stderr
    assert path.read_text() == "of yesterday"
