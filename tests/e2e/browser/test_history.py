"""The list of spots bears what happens to it meanwhile: in another tab, or by an earlier fault."""

from __future__ import annotations

import uuid

from playwright.sync_api import Route, expect

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
