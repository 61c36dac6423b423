"""The same way without any script: a form, a page that refreshes itself, the answer, and its end."""

from __future__ import annotations

import pytest
import requests
from playwright.sync_api import expect

from tests.conftest import lesion_photograph


@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_the_whole_way_without_javascript(open_page, site, keep, size):
    page = open_page(size=size, java_script_enabled=False, tolerate="410")
    page.get_by_label("Choose photos").set_input_files(
        {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": lesion_photograph(21)}
    )
    page.get_by_role("button", name="Look at this spot").click()
    expect(page.locator("section.verdict")).to_be_visible()
    keep(page, f"answer-without-javascript-{size}")
    analysis_id = page.locator("#analysis").get_attribute("data-id")

    page.get_by_label("It was confirmed as").select_option("mel")
    page.get_by_label("Confirmed by").select_option("clinician")
    page.get_by_role("button", name="Send feedback").click()
    expect(page.get_by_text("Your feedback was stored.")).to_be_visible()

    page.get_by_text("Delete this photo and its answer").click()
    page.get_by_role("button", name="Delete now").click()
    expect(page.get_by_role("heading", name="It is deleted")).to_be_visible()
    assert requests.get(f"{site}/v1/analyses/{analysis_id}", timeout=30).status_code == 410
    page.goto(f"/analyses/{analysis_id}")
    expect(page.get_by_role("heading", name="This answer was deleted")).to_be_visible()


def test_a_form_without_a_photo_says_so(open_page):
    page = open_page(java_script_enabled=False, tolerate="400")
    page.get_by_role("button", name="Look at this spot").click()
    expect(page.get_by_role("alert")).to_contain_text("No photo was chosen.")


def test_the_list_says_that_it_needs_javascript(open_page):
    page = open_page("/history", java_script_enabled=False)
    expect(page.locator("noscript p")).to_contain_text("needs JavaScript")
    expect(page.locator("noscript p")).to_be_visible()


def test_the_language_is_chosen_by_a_link_and_remembered(open_page):
    page = open_page("/", java_script_enabled=False)
    page.get_by_role("link", name="Deutsch").click()
    expect(page.locator("html")).to_have_attribute("lang", "de")
    page.goto("/about")
    expect(page.locator("html")).to_have_attribute("lang", "de")
