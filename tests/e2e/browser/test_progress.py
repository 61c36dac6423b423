"""Waiting: the place in the queue and the stages, as they come, and a connection that is lost meanwhile.

The real product is too quick to be looked at while it works; here the record's answers are put in the browser's way.
The page, its scripts and the answer at the end are real.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import requests
from flask import Flask
from playwright.sync_api import Route, expect

from services.analysis.states import AnalysisState
from services.gateway.problems import register_problems
from services.gateway.web import register_pages
from tests.conftest import lesion_photograph
from tests.e2e.browser.test_accessibility import ended
from tests.unit.web.conftest import MemoryDesk


def queued_page(folder: Path, ahead: int) -> tuple[str, str]:
    """The page of an analysis that waits, and that analysis' id."""
    desk = MemoryDesk(folder)
    desk.ahead = ahead
    app = Flask("waiting")
    register_problems(app)
    register_pages(app, lambda: desk)
    analysis = desk.add(AnalysisState.QUEUED)
    html = app.test_client().get(f"/analyses/{analysis.id}").get_data(as_text=True)
    return html, str(analysis.id)


def test_place_and_stage_follow_the_record_until_the_answer_is_there(open_page, site, tmp_path):
    done = ended(site, lesion_photograph(41), force="true")
    answer = requests.get(f"{site}/analyses/{done}", timeout=30).text
    html, waiting = queued_page(tmp_path, ahead=3)
    page = open_page("/about", tolerate="ERR_FAILED")
    told: Iterator[dict[str, object] | str | None] = iter(
        (
            {"state": "queued", "waiting_ahead": 2},
            None,
            {"state": "preparing"},
            {"state": "stacking"},
            "cut off",
            {"state": "done"},
        )
    )
    asked: list[dict[str, str]] = []
    pages = iter((html, answer.replace(done, waiting)))
    held: list[Route] = []

    def tell() -> None:
        step = next(told)
        route = held.pop()
        if step is None:
            route.abort()
        else:
            body = step if isinstance(step, str) else json.dumps({"id": waiting, **step})
            route.fulfill(status=200, body=body, headers={"ETag": f'"{len(asked)}"'}, content_type="application/json")

    def hold(route: Route) -> None:
        asked.append(route.request.headers)
        held.append(route)

    def until_asked(times: int) -> None:
        for _ in range(200):
            if len(asked) >= times:
                return
            page.wait_for_timeout(50)
        raise AssertionError(f"asked {len(asked)} times, not {times}")

    page.route(f"**/v1/analyses/{waiting}", hold)
    page.route(f"**/analyses/{waiting}/**", lambda route: route.abort())
    page.route(f"{site}/analyses/{waiting}", lambda route: route.fulfill(body=next(pages), content_type="text/html"))
    page.goto(f"/analyses/{waiting}")
    now = page.locator("#stages [aria-current=step]")
    expect(now).to_contain_text("3 photos before yours")  # as the server rendered it

    until_asked(1)
    tell()
    expect(now).to_contain_text("2 before yours")
    until_asked(2)
    assert asked[1]["if-none-match"] == '"1"'  # the server holds its answer back until there is another one
    assert asked[1]["prefer"] == "wait=10"
    tell()
    expect(page.locator("#live")).to_have_text("The connection was lost. Trying again …")
    until_asked(3)
    tell()
    expect(now).to_have_text("Checking and preparing the photo")
    expect(page.locator("#live")).to_have_text("")
    until_asked(4)
    tell()
    expect(now).to_have_text("Looking, and combining what they see")
    until_asked(5)
    tell()
    until_asked(6)
    assert asked[5]["if-none-match"] == asked[4]["if-none-match"]  # what was not shown is asked for again
    tell()
    expect(page.locator("section.verdict")).to_be_visible()
    expect(page.locator("h1")).to_be_focused()
