"""Nobody to ask is said, and is not the same as nothing found; what was found stays found."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "requirements" / "audit.py"
WEAK = {"dependencies": [{"name": "weak", "version": "1", "vulns": [{"id": "PYSEC-1"}]}]}
UNKNOWN = {"dependencies": [{"name": "weak", "version": "1", "skip_reason": "not found"}]}


@pytest.fixture
def audit():
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(*given):
    told = iter(given)
    return lambda _: next(told)


@pytest.mark.parametrize("given", [[None], [UNKNOWN] * 3], ids=["no answer", "knows no package"])
def test_nobody_to_ask_is_said(audit, monkeypatch, capsys, given):
    monkeypatch.setattr(audit, "_ask", answers(*given))
    assert audit.main() == 0
    assert "SKIPPED" in capsys.readouterr().out


def test_what_was_found_stays_found_when_the_service_goes_away(audit, monkeypatch, capsys):
    monkeypatch.setattr(audit, "_ask", answers(WEAK, None))
    assert audit.main() == 1
    told = capsys.readouterr().out
    assert "SKIPPED from training.txt on" in told
    assert "weak 1: PYSEC-1 NOT EXPLAINED" in told
