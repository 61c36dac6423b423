"""Every setting has a help text and stands in the README, with its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.analysis.settings import Settings, markdown_table

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_says_what_it_is(name: str) -> None:
    description = Settings.model_fields[name].description

    assert description
    assert description.endswith((".", ")")) or "`" in description
    assert "|" not in description, "it would break the table"


def test_the_readme_has_the_table_as_the_code_gives_it() -> None:
    found = re.search(r"<!-- settings:begin -->\n(.*?)\n<!-- settings:end -->", README, re.DOTALL)

    assert found is not None
    assert found.group(1) == markdown_table(), "put the output of `lesionlens settings` between the two comments"


def test_a_setting_the_readme_names_elsewhere_exists() -> None:
    prose = re.sub(r"<!-- settings:begin -->.*?<!-- settings:end -->", "", README, flags=re.DOTALL)
    named = set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9])`", prose))

    assert named, "the README explains at least the addresses of servers"
    assert named <= {name.upper() for name in Settings.model_fields}
