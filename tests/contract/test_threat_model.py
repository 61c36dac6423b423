"""Every threat in docs/security.md and every promise in docs/reliability.md names tests, and those exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LETTERS = set("STRIDE")


def rows(document: str, heading: str) -> list[list[str]]:
    text = (ROOT / "docs" / document).read_text().partition(f"## {heading}")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line][1:]


def missing(name: str) -> str | None:
    """What is not there of `path` or `path::test`."""
    path, _, test = name.partition("::")
    if (ROOT / path).is_dir() and not test:
        return None if list((ROOT / path).glob("*.py")) else path
    if not (ROOT / path).is_file():
        return path
    tree = ast.parse((ROOT / path).read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    tests = {function for function in functions if function.startswith("test_")}
    return None if tests and (not test or test in tests) else name


def test_every_threat_has_a_defence_and_tests_that_exist() -> None:
    found = rows("security.md", "Threats")
    assert {letter for letter, *_ in found} == LETTERS
    for letter, threat, defence, tests in found:
        named = re.findall(r"`(tests/[^`]+)`", tests)
        assert letter in LETTERS
        assert threat
        assert defence
        assert named, f"no test: {threat}"
        assert [name for name in map(missing, named) if name] == []


def test_every_promise_is_shown_by_tests_that_exist() -> None:
    found = rows("reliability.md", "What keeps the promise")
    assert len(found) > 10
    for threat, kept_by, tests in found:
        named = re.findall(r"`(tests/[^`]+)`", tests)
        assert kept_by
        assert named, f"no test: {threat}"
        assert [name for name in map(missing, named) if name] == []


def test_a_test_that_does_not_exist_is_found() -> None:
    assert missing("tests/contract/test_threat_model.py::test_nothing")
    assert missing("tests/contract/no_such.py")
    assert missing("docs/security.md".replace("docs/security.md", "tests/hostile.py"))
