"""A short fuzz with a printed seed, and every file that a long one has found."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import fuzz
from tests.fuzz.fuzz import read_all_ways
from tests.fuzz.mutate import mutated, seeds

FOUND = sorted((Path(__file__).parent / "found").glob("*.bin"))


def test_mutated_files_are_outcomes_within_time_and_memory() -> None:
    seed = random.SystemRandom().randrange(1 << 32)

    # In a fresh interpreter, as by hand: forked from this one, the files' processes would start with its memory.
    made = subprocess.run(
        [sys.executable, fuzz.__file__, "--seed", str(seed), "--files", "200"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert made.returncode == 0, f"seed {seed}\n{made.stdout}{made.stderr}"
    table = dict(re.findall(r"^\| (\S.*?) +\| (\S.*?) +\|$", made.stdout, re.MULTILINE))
    assert table["files"] == "200"
    assert 0 < int(table["refused"]) < 200, "mutations must neither break everything nor nothing"


def test_a_file_of_a_fuzz_can_be_made_again() -> None:
    assert mutated(7, 3) == mutated(7, 3)
    assert len({mutated(7, number) for number in range(50)}) > 40
    assert {name.split()[0] for name, _ in seeds()} >= {"jpeg", "png", "webp", "bmp", "tiff", "heic", "avif"}


@pytest.mark.parametrize("file", FOUND, ids=lambda file: file.stem)
def test_what_a_fuzz_found_is_an_outcome_now(file: Path) -> None:
    read_all_ways(file.read_bytes(), whole_way=True)
