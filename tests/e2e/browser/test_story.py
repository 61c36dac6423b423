"""What a person does: send a photo, read the answer, name the spot, come back, compare, delete."""

from __future__ import annotations

import re
import uuid
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.conftest import lesion_photograph

ANSWER = re.compile(r"/analyses/[0-9a-f-]{36}$")
VERDICT = "section.verdict"


def photo(seed: int) -> dict[str, object]:
    return {"name": "IMG_0001 at home.jpg", "mimeType": "image/jpeg", "buffer": lesion_photograph(seed)}


def send(page: Page, *seeds: int) -> None:
    page.get_by_label("Choose photos").set_input_files([photo(seed) for seed in seeds])
    expect(page.locator("#framing")).not_to_have_text("The spot belongs inside the ring, with skin all around it.")
    page.get_by_role("button", name="Look at this spot").click()


def answered(page: Page) -> str:
    """Waits for the answer; its id."""
    expect(page.locator(VERDICT)).to_be_visible()
    return str(page.locator("#analysis").get_attribute("data-id"))


def name_spot(page: Page, name: str) -> None:
    page.get_by_label("Name of the spot, kept in this browser only").fill(name)
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#named")).to_have_text("Saved in this browser.")


def status_of(site: str, analysis_id: str) -> int:
    return requests.get(f"{site}/v1/analyses/{analysis_id}", timeout=30).status_code


@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_from_a_photo_to_its_answer_over_time_and_back_to_nothing(open_page, site, keep, size):
    page = open_page(size=size)
    keep(page, f"start-{size}")
    send(page, 1)
    page.wait_for_url(ANSWER)
    first = answered(page)
    expect(page.locator("h1")).to_be_focused()
    expect(page.locator("#photo")).to_be_visible()
    for picture in ("#photo", "#attention"):
        assert page.locator(picture).evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    keep(page, f"answer-{size}")
    name_spot(page, "left forearm")

    page.goto("/?force=1")
    send(page, 2)
    page.wait_for_url(ANSWER)
    second = answered(page)
    assert second != first
    name_spot(page, "left forearm")

    page.get_by_role("link", name="Compare it with earlier photos").click()
    group = page.locator("section.spot", has=page.get_by_role("heading", name="left forearm"))
    expect(group.locator(".entry")).to_have_count(2)
    group.get_by_role("button", name="Compare over time").click()
    sides = group.locator(".side")
    expect(sides).to_have_count(2)
    assert sides.nth(0).locator("select").input_value() == first
    assert sides.nth(1).locator("select").input_value() == second
    assert _painted(sides.nth(0).locator("canvas"))
    assert _painted(sides.nth(1).locator("canvas"))
    keep(page, f"history-{size}")

    entry = group.locator(f'.entry[data-id="{first}"]')
    entry.locator("summary").click()
    entry.get_by_role("button", name="Delete now").click()
    expect(page.locator("#said")).to_have_text("Deleted, here and on the server.")
    assert status_of(site, first) == 410
    assert status_of(site, second) == 200

    page.get_by_text("Delete everything", exact=True).click()
    page.get_by_role("button", name="Delete everything now").click()
    expect(page.locator("#empty")).to_be_visible()
    assert status_of(site, second) == 410
    assert page.evaluate("localStorage.getItem('lesionlens.spots')") == "[]"


def _painted(canvas) -> bool:
    """Whether a canvas shows more than one colour."""
    colours = """c => new Set(
      new Uint32Array(c.getContext("2d").getImageData(0, 0, c.width, c.height).data.buffer)).size"""
    return int(canvas.evaluate(colours)) > 10


def test_several_photos_at_once_each_get_an_answer(open_page, site):
    page = open_page()
    send(page, 3, 4)
    page.wait_for_url("**/history")
    entries = page.locator(".entry")
    expect(page.locator(".entry .entry-probability", has_text="%")).to_have_count(2)
    ids = [str(entries.nth(place).get_attribute("data-id")) for place in range(2)]
    assert len(set(ids)) == 2
    for place, analysis_id in enumerate(ids):
        answer = requests.get(f"{site}/v1/analyses/{analysis_id}", timeout=30).json()
        assert answer["state"] == "done"
        shown = entries.nth(place).locator(".entry-probability").inner_text()
        probability = answer["result"]["probability"]
        assert shown == ("< 1%" if probability < 0.01 else f"{round(100 * probability)}%")
        assert _painted(entries.nth(place).locator("canvas"))


def test_of_several_photos_one_that_cannot_be_used_holds_up_none(open_page, site):
    page = open_page(tolerate="415")
    letter = {"name": "letter.jpg", "mimeType": "image/jpeg", "buffer": b"Dear doctor, this is a letter."}
    page.get_by_label("Choose photos").set_input_files([photo(13), letter, photo(14)])
    expect(page.locator("#framing")).to_contain_text("3 photos")
    page.get_by_role("button", name="Look at this spot").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("This file is not a photo")
    expect(alert).not_to_contain_text("Photo 1")  # one is left, so there is nothing to tell apart
    alert.get_by_role("link", name="Sent and listed under “My spots”: 2.").click()
    expect(page.locator(".entry .entry-probability", has_text="%")).to_have_count(2)


def test_photos_that_cannot_be_used_are_told_apart(open_page):
    page = open_page(tolerate="415")
    letter = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"Dear doctor, this is a letter."}
    page.get_by_label("Choose photos").set_input_files([letter, letter])
    page.get_by_role("button", name="Look at this spot").click()
    expect(page.get_by_role("alert")).to_contain_text(
        re.compile("Photo 1: This file is not a photo.*Photo 2: This file")
    )
    page.get_by_role("button", name="Remove Photo 1").click()
    expect(page.locator("#chosen")).to_be_hidden()


def test_a_reload_keeps_the_way_to_the_answer(open_page, site):
    created = requests.post(
        f"{site}/v1/analyses", files={"image": lesion_photograph(5)}, data={"force": "true"}, timeout=30
    )
    page = open_page(f"/analyses/{created.json()['id']}")
    page.reload()
    answered(page)
    page.reload()
    answered(page)


def test_an_answer_that_is_deleted_from_its_page_is_gone(open_page, site):
    page = open_page()
    send(page, 6)
    analysis_id = answered(page)
    page.get_by_text("Delete this photo and its answer").click()
    page.get_by_role("button", name="Delete now").click()
    expect(page.get_by_role("heading", name="It is deleted")).to_be_visible()
    assert status_of(site, analysis_id) == 410
    page.goto("/history")
    expect(page.locator("#empty")).to_be_visible()


def test_a_photo_that_is_not_to_be_stored_is_gone_when_the_answer_is_there(open_page, site):
    page = open_page()
    page.get_by_label("Do not store my photo").check()
    send(page, 7)
    analysis_id = answered(page)
    expect(page.get_by_text("The photo is no longer stored on the server.")).to_be_visible()
    expect(page.locator("#photo-here")).to_be_visible()  # the small picture that this browser kept
    assert requests.get(f"{site}/v1/analyses/{analysis_id}", timeout=30).json()["store"] is False


def test_the_attention_map_can_be_laid_over_the_photo_and_taken_off(open_page):
    page = open_page()
    send(page, 8)
    answered(page)
    slider = page.get_by_label("Where the networks looked")
    slider.fill("0")
    assert page.locator("#attention").evaluate("map => getComputedStyle(map).opacity") == "0"
    slider.fill("80")
    assert page.locator("#attention").evaluate("map => getComputedStyle(map).opacity") == "0.8"


def test_feedback_is_taken_and_withdrawn(open_page):
    page = open_page()
    send(page, 9)
    answered(page)
    page.get_by_label("It was confirmed as").select_option("nv")
    page.get_by_label("Confirmed by").select_option("biopsy")
    page.get_by_label("The photo may be used to train the networks").check()
    page.get_by_role("button", name="Send feedback").click()
    expect(page.get_by_text("Your feedback was stored.")).to_be_visible()
    page.goto(urlsplit(page.url).path)  # as from the list, weeks later
    expect(page.get_by_text("The photo is kept as long as this answer")).to_be_visible()
    page.get_by_role("button", name="Withdraw it").click()
    expect(page.get_by_text("Your feedback and your consent were withdrawn.")).to_be_visible()


def test_the_reminder_and_the_exports_can_be_fetched(open_page):
    page = open_page()
    send(page, 10)
    answered(page)
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("Remind me in [126] weeks?")).click()
    assert download.value.path().read_bytes().startswith(b"BEGIN:VCALENDAR\r\n")
    for name, start in (("Report for the doctor (PDF)", b"%PDF"), ("All values (JSON)", b"{")):
        address = page.get_by_role("link", name=name).get_attribute("href")
        assert page.request.get(address).body().startswith(start)


def test_a_lost_connection_keeps_the_photo_and_sends_it_only_once(open_page):
    page = open_page(tolerate="ERR_INTERNET_DISCONNECTED")
    keys = []
    page.on(
        "request", lambda request: keys.append(request.headers.get("idempotency-key")) if _is_upload(request) else None
    )
    page.context.set_offline(True)
    send(page, 11)
    expect(page.locator("#sending-problem")).to_contain_text("Your photo is still here")
    page.context.set_offline(False)
    page.get_by_role("button", name="Look at this spot").click()
    answered(page)
    assert len(keys) == 2
    assert keys[0] == keys[1]


def _is_upload(request) -> bool:
    return request.method == "POST" and request.url.endswith("/v1/analyses")


def test_a_link_opened_for_somebody_else_does_not_enter_the_list(open_page):
    page = open_page()
    send(page, 12)
    address = f"/analyses/{answered(page)}"
    other = open_page(address)
    answered(other)
    other.goto("/history")
    expect(other.locator("#empty")).to_be_visible()


def test_an_unknown_answer_is_a_page(open_page):
    page = open_page(f"/analyses/{uuid.uuid4()}", tolerate="404")
    expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()
