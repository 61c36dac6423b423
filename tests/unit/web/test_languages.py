"""The language of a page."""

from __future__ import annotations

import pytest


def language_of(response) -> str:
    return response.headers["Content-Language"]


@pytest.mark.parametrize(
    ("wishes", "language"),
    [("de", "de"), ("de-AT,de;q=0.9,en;q=0.5", "de"), ("fr-CA", "fr"), ("pl,es;q=0.4", "es"), ("pl", "en"), ("", "en")],
)
def test_the_browser_s_wish_is_met_where_possible(client, wishes, language):
    assert language_of(client.get("/", headers={"Accept-Language": wishes})) == language


def test_the_menu_s_choice_is_remembered_against_the_browser_s_wish(client):
    client.get("/?lang=es")
    assert language_of(client.get("/about", headers={"Accept-Language": "de"})) == "es"


def test_an_unknown_language_is_neither_shown_nor_remembered(client):
    response = client.get("/about?lang=tlh")
    assert language_of(response) == "en"
    assert "Set-Cookie" not in response.headers


def test_caches_are_told_what_the_page_depends_on(client):
    assert {"Accept-Language", "Cookie"} <= set(client.get("/about").vary)


def test_numbers_are_written_as_the_language_does(client, desk):
    address = f"/analyses/{desk.add_done(probability=0.07).id}"
    assert "7\xa0%" in client.get(address, headers={"Accept-Language": "de"}).get_data(as_text=True)


def test_a_number_that_never_changes_is_written_as_the_language_does_too(client, desk, read):
    """A template's constants would be worked out once, in the language of whoever came first."""
    address = f"/analyses/{desk.add_done().id}"
    assert "0% 100%" in read(client.get(address)).words.replace("0%100%", "0% 100%")
    assert "100\N{NO-BREAK SPACE}%" in client.get(address, headers={"Accept-Language": "de"}).get_data(as_text=True)
