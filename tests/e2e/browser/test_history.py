"""The list of spots bears what happens to it meanwhile: in another tab, or by an earlier fault."""

from __future__ import annotations

import uuid

from playwright.sync_api import Page, Route, expect

FILL = "entries => localStorage.setItem('lesionlens.spots', JSON.stringify(entries))"
KEPT = "JSON.parse(localStorage.getItem('lesionlens.spots')).map((entry) => entry.id)"


def entry(**rest: str) -> dict[str, str]:
    return {"id": str(uuid.uuid4()), "at": "2026-11-01T08:00:00Z", "thumb": "", "spot": "", "state": "queued", **rest}


def test_what_is_deleted_while_it_is_looked_up_does_not_come_back(open_page):
    page = open_page("/history", tolerate="410")
    deleted, stays = entry(), entry(state="failed")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(f"**/v1/analyses/{deleted['id']}", hold)
    page.evaluate(FILL, [deleted, stays])
    page.reload()
    expect(page.locator(".entry")).to_have_count(2)
    page.evaluate(FILL, [stays])
    for _ in range(200):
        if held:
            break
        page.wait_for_timeout(50)
    with page.expect_response(f"**/v1/analyses/{deleted['id']}"):
        held.pop().fulfill(status=410, body="{}", content_type="application/problem+json")
    page.evaluate("() => new Promise((done) => setTimeout(done))")  # what waited for it has had its turn
    page.reload()
    expect(page.locator(".entry")).to_have_count(1)
    assert page.evaluate(KEPT) == [stays["id"]]


#: A look at an analysis waits until the test answers it, and the test until there is one.
ANSWERED_BY_HAND = """
let ask, asked;
const next = () => (asked = new Promise((done) => (ask = done)));
next();
window.fetch = () => new Promise((resolve) => ask(resolve));
window.answer = async (body) => {
  const resolve = await asked;
  next();
  resolve(new Response(JSON.stringify(body)));
};"""


def answer(page: Page, **body: object) -> None:
    page.evaluate("body => window.answer(body)", body)


def test_news_of_a_photo_leaves_alone_what_is_being_typed(open_page):
    page = open_page("/history")
    at_work, other = entry(), entry(state="failed")
    page.evaluate(FILL, [at_work, other])
    page.add_init_script(ANSWERED_BY_HAND)
    page.reload()
    for kept in (at_work, other):
        row = page.locator(f'[data-id="{kept["id"]}"]')
        row.get_by_text("Name or delete").click()
        row.get_by_label("Name of the spot").fill("left should")
    answer(page, state="preparing")
    page.keyboard.type("e")
    answer(page, state="done", result={"band": "high", "probability": 0.7, "concerns": []})
    expect(page.locator(f'[data-id="{at_work["id"]}"] .entry-words')).to_contain_text("High70%")
    page.keyboard.type("r")
    names = page.get_by_label("Name of the spot")
    assert [name.input_value() for name in names.all()] == ["left should", "left shoulder"]
    expect(page.locator("details.entry-more[open]")).to_have_count(2)


def test_news_of_a_photo_is_told_in_an_open_comparison_as_well(open_page):
    page = open_page("/history")
    earlier, later = entry(spot="arm", state="failed", at="2026-10-01T08:00:00Z"), entry(spot="arm")
    page.evaluate(FILL, [later, earlier])
    page.add_init_script(ANSWERED_BY_HAND)
    page.reload()
    page.get_by_role("button", name="Compare over time").click()
    sides = page.locator(".comparison figcaption")
    expect(sides.last).to_contain_text("Still working")
    answer(page, state="done", result={"band": "low", "probability": 0.1, "concerns": []})
    expect(sides.last).to_contain_text("Low 10%")
    expect(sides.first).to_contain_text("No answer this time")


def test_what_is_gone_says_so_at_once(open_page):
    page = open_page("/history", tolerate="404")
    page.evaluate(FILL, [entry()])
    page.reload()
    expect(page.locator(".entry-band")).not_to_have_text("Still working")


def test_a_list_with_a_broken_entry_is_shown_without_it(open_page):
    page = open_page("/history")
    whole = entry(state="failed")
    page.evaluate(FILL, [{"id": "x", "state": "gone", "spot": "", "thumb": ""}, whole])
    page.reload()
    expect(page.locator("#list")).to_have_attribute("aria-busy", "false")
    expect(page.locator(".entry")).to_have_count(1)
