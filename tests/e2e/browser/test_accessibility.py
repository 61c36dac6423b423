"""WCAG 2.2 AA as far as a machine can tell, the keyboard alone, narrow screens, and calm."""

from __future__ import annotations

import io
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from tests.conftest import lesion_photograph
from tests.e2e.browser.test_choosing import ended, made_badly

RULES = {
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}
LANGUAGES = {"en": "en-GB", "de": "de-DE", "es": "es-ES", "fr": "fr-FR"}
#: Names, a band and a small picture, as this browser would have kept them.
KEPT = """ids => localStorage.setItem("lesionlens.spots", JSON.stringify(ids.map((id, i) => ({
  id, at: `2026-0${i + 1}-01T10:00:00Z`, state: "done", spot: "arm", thumb: "", band: ["low", "unsure", "high"][i % 3],
  probability: 0.1 + i / 4 }))))"""


@pytest.fixture(scope="session")
def addresses(chromium, site, as_if_not_forced) -> dict[str, str]:
    """Every kind of page."""
    blank = io.BytesIO()
    Image.new("RGB", (400, 400), (190, 150, 130)).save(blank, "JPEG")
    done = ended(site, lesion_photograph(31), force="true")
    held = ended(site, made_badly("glare"), force="true")
    as_if_not_forced(held)
    return {
        "start": "/?force=1",
        "answer": f"/analyses/{done}",
        "doubtful": f"/analyses/{ended(site, made_badly('glare'), force='true')}",
        "held": f"/analyses/{held}",
        "refused": f"/analyses/{ended(site, blank.getvalue())}",
        "history": "/history",
        "about": "/about",
        "privacy": "/privacy",
        "nothing": "/nothing-here",
    }


def violations(page: Page) -> list[str]:
    found: dict[str, Any] = Axe().run(page, options=RULES).response
    return [
        f"{violation['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_axe_finds_nothing_on_any_page(open_page, addresses, keep, language, theme):
    # Each size is met in both themes and with two languages.
    size = "phone" if (language in {"en", "de"}) == (theme == "light") else "desktop"
    page = open_page("/", size=size, locale=LANGUAGES[language], color_scheme=theme, tolerate="404")
    page.evaluate(
        KEPT, [addresses["answer"].rsplit("/", 1)[1], *(f"0000000{i}-0000-4000-8000-000000000000" for i in "12")]
    )
    found = {}
    for name, address in addresses.items():
        page.goto(address)
        expect(page.locator("html")).to_have_attribute("lang", language)
        if name == "history":
            expect(page.locator("#list")).to_have_attribute("aria-busy", "false")
            page.locator("button.compare").click()
        for closed in page.locator("summary").all():
            closed.click()
        if language == "en":
            keep(page, f"{name}-{size}-{theme}")
        if problems := violations(page):
            found[name] = problems
    assert found == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("address", ["/docs", "/problems/unsupported-image"])
def test_what_is_for_developers_can_be_read_by_all_of_them_and_on_a_phone(open_page, address, theme):
    """In English alone; otherwise held to the same rules."""
    page = open_page(address, color_scheme=theme, viewport={"width": 320, "height": 640})
    for closed in page.locator("summary").all():
        closed.click()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_has_to_be_scrolled_sideways_on_a_narrow_screen(open_page, addresses, language):
    """WCAG 1.4.10: 320 CSS pixels, which is also a desktop zoomed to 400 %."""
    narrow = {"viewport": {"width": 320, "height": 640}, "locale": LANGUAGES[language]}
    page = open_page("/", tolerate="404", **narrow)
    for address in addresses.values():
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, address


def test_what_is_tapped_is_large_enough(open_page, addresses):
    """WCAG 2.5.8 asks for 24 px; buttons and menus get 44, as fingers do."""
    page = open_page("/", tolerate="404")
    for address in addresses.values():
        page.goto(address)
        small = page.eval_on_selector_all(
            ".button, nav a, summary, select",
            "all => all.filter(e => e.offsetParent && e.getBoundingClientRect().height < 43.5).map(e => e.outerHTML)",
        )
        assert small == [], address


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"))


def tab_to(page: Page, selector: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} cannot be reached by keyboard")


def test_everything_can_be_done_with_the_keyboard_alone(open_page, site):
    page = open_page("/?force=1", size="desktop")
    # Choosers are caught from here on: asked for right before the key, it may come after the browser's own dialog.
    page.on("filechooser", lambda _: None)
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    tab_to(page, "input[type=file]:not([capture])")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": lesion_photograph(32)})
    expect(page.locator("#preview")).to_be_visible()
    tab_to(page, "input[name=do_not_store]")
    page.keyboard.press("Space")
    tab_to(page, "button[type=submit]")
    page.keyboard.press("Enter")
    expect(page.locator("section.verdict")).to_be_visible()
    expect(page.locator("h1")).to_be_focused()
    tab_to(page, "#attention-strength")
    before = page.locator("#attention-strength").input_value()
    page.keyboard.press("ArrowRight")
    assert page.locator("#attention-strength").input_value() != before
    tab_to(page, ".abcde input")
    page.keyboard.press("Space")
    assert page.locator(".abcde input").first.is_checked()
    tab_to(page, "#spot-name")
    page.keyboard.type("chin")
    page.keyboard.press("Enter")
    expect(page.locator("#named")).to_have_text("Saved in this browser.")
    tab_to(page, ".delete summary")
    page.keyboard.press("Enter")
    tab_to(page, ".delete button")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="It is deleted")).to_be_visible()


def test_focus_is_always_visible(open_page):
    page = open_page("/", size="desktop")
    for _ in range(12):
        page.keyboard.press("Tab")
        outline = page.evaluate(
            """() => {
                 const active = document.activeElement;
                 const shown = active.type === "file" ? active.parentElement : active;
                 const { outlineStyle, outlineWidth } = getComputedStyle(shown);
                 return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
               }"""
        )
        assert outline, page.evaluate("document.activeElement.outerHTML")


def test_whoever_wants_less_motion_gets_none(open_page):
    page = open_page("/about", reduced_motion="reduce")
    page.evaluate(
        """() => { document.getElementById("main").innerHTML = '<ol class="stages"><li class="now">…</li></ol>'; }"""
    )
    name = page.evaluate("getComputedStyle(document.querySelector('.stages .now'), '::before').animationName")
    assert name == "none"


def test_print_leaves_the_controls_out(open_page, addresses):
    page = open_page(addresses["answer"], size="desktop")
    page.emulate_media(media="print")
    expect(page.locator("#verdict-heading")).to_be_visible()
    for selector in (".top nav", "#feedback", ".delete", "#attention-strength"):
        expect(page.locator(selector).first).to_be_hidden()
