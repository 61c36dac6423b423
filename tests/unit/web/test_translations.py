"""The catalogues: complete, compiled, and about sentences that are really said."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po

from services.gateway import web
from services.gateway.web.languages import LANGUAGES, TRANSLATIONS

TRANSLATED = sorted(set(LANGUAGES) - {"en"})
ROOT = Path(web.__file__).parent


def catalogue(language: str) -> Catalog:
    with (TRANSLATIONS / language / "LC_MESSAGES" / "messages.po").open("rb") as file:
        return read_po(file, locale=language)


@pytest.fixture(scope="module")
def said() -> set[str | tuple[str, ...]]:
    """Every message in the sources, as `pybabel extract -F babel.cfg -k lazy_gettext` finds it."""
    with (ROOT / "babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)
    keywords = {"_": None, "gettext": None, "lazy_gettext": None, "ngettext": (1, 2)}
    found = extract_from_dir(ROOT, methods, options, keywords=keywords)
    return {message for _file, _line, message, _comments, _context in found}


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_sentence_is_translated_and_no_translation_is_left_over(said, language):
    known = {message.id for message in catalogue(language) if message.id}
    assert known == said


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_translation_says_something_and_keeps_the_placeholders(language):
    found = catalogue(language)
    for message in found:
        forms = message.string if isinstance(message.string, tuple) else (message.string,)
        assert all(forms), message.id
        assert not message.fuzzy, message.id
        original = message.id if isinstance(message.id, str) else message.id[1]
        for name in ("{count}", "{date}", "{name}", "{number}", "{size}"):
            assert all((name in form) == (name in original) for form in forms), original
    assert not [(message.id, errors) for message, errors in found.check()]


@pytest.mark.parametrize("language", TRANSLATED)
def test_the_compiled_catalogue_is_the_readable_one(language):
    """After a change: `pybabel compile -d services/gateway/web/translations`."""
    compiled = TRANSLATIONS / language / "LC_MESSAGES" / "messages.mo"
    fresh = io.BytesIO()
    write_mo(fresh, catalogue(language))
    fresh.seek(0)
    with compiled.open("rb") as file:
        assert _strings(read_mo(file)) == _strings(read_mo(fresh))


def _strings(found: Catalog) -> dict[object, object]:
    plain = ((m.id if isinstance(m.id, str) else tuple(m.id), m.string) for m in found if m.id)
    return {id_: string if isinstance(string, str) else tuple(string) for id_, string in plain}
