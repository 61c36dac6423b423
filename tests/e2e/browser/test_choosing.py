"""Choosing a photo: dropped, pasted, from a camera; large ones, iPhone's, and those that cannot be used."""

from __future__ import annotations

import io
import re

import cv2
import numpy as np
import pytest
import requests
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import Route, expect

from tests.conftest import lesion_photograph

#: Lets a page receive a file as if it had been dropped on it or pasted into it.
GIVE = """([target, kind, bytes]) => {
  const files = new DataTransfer();
  files.items.add(new File([new Uint8Array(bytes)], "photo.jpg", { type: "image/jpeg" }));
  const event = kind === "drop"
    ? new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: files, bubbles: true });
  document.querySelector(target).dispatchEvent(event);
}"""

#: Lists an analysis as this browser would that had just sent it.
SENT = """id => localStorage.setItem("lesionlens.spots", JSON.stringify([
  { id, at: "2026-01-01T10:00:00Z", state: "queued", spot: "", thumb: "" }]))"""


def ended(site: str, image: bytes, **form: str) -> str:
    """Id of an analysis that has come to its end."""
    headers = {"Prefer": "wait=25"}
    answer = requests.post(f"{site}/v1/analyses", files={"image": image}, data=form, headers=headers, timeout=60).json()
    while answer["state"] not in {"done", "rejected", "failed"}:
        answer = requests.get(f"{site}/v1/analyses/{answer['id']}", headers=headers, timeout=60).json()
    return str(answer["id"])


def as_file(data: bytes, kind: str = "image/jpeg") -> dict[str, object]:
    return {"name": "photo", "mimeType": kind, "buffer": data}


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_photo_can_be_dropped_and_pasted(open_page, kind):
    page = open_page(size="desktop")
    page.evaluate(GIVE, ["#drop", kind, list(lesion_photograph(1))])
    expect(page.locator("#preview")).to_be_visible()
    page.get_by_role("button", name="Look at this spot").click()
    expect(page.locator("section.verdict")).to_be_visible()


def test_a_phone_offers_its_camera(open_page):
    page = open_page(size="phone")
    camera = page.get_by_label("Take a photo")
    assert camera.get_attribute("capture") == "environment"
    camera.set_input_files(as_file(lesion_photograph(1)))
    expect(page.locator("#preview")).to_be_visible()


def test_an_age_is_sent_with_the_photo_and_counts(open_page, site):
    page = open_page()
    page.get_by_label("Choose photos").set_input_files(as_file(lesion_photograph(1)))
    age, send = page.get_by_label("Age of the person"), page.get_by_role("button", name="Look at this spot")
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    for no_age in ("161", "4.5"):
        age.fill(no_age)
        send.click()
    age.fill("61")
    send.click()
    expect(page.locator("section.verdict")).to_be_visible()
    assert len(sent) == 1, "for what is no age the browser asks for another one"
    expect(page.get_by_text("The age of 61 is counted in.")).to_be_visible()
    analysis_id = page.locator("#analysis").get_attribute("data-id")
    assert requests.get(f"{site}/v1/analyses/{analysis_id}", timeout=30).json()["age"] == 61
    page.get_by_role("link", name="My spots").click()
    expect(page.locator(".entry .entry-probability")).to_contain_text("% · age counted in")


def test_nothing_is_sent_before_a_photo_is_chosen(open_page):
    page = open_page()
    page.get_by_role("button", name="Look at this spot").click()
    expect(page.get_by_role("alert")).to_have_text("Please choose or take a photo first.")


@pytest.mark.parametrize(("size", "same"), [((4000, 3000), True), ((4600, 3450), False)])
def test_only_more_than_twelve_megapixels_are_reduced(open_page, site, size, same):
    small = Image.open(io.BytesIO(lesion_photograph(1)))
    original = encoded(small.resize(size), quality=60)
    page = open_page()
    page.get_by_label("Choose photos").set_input_files(as_file(original))
    expect(page.locator("#preview")).to_be_visible()
    page.get_by_role("button", name="Look at this spot").click()
    expect(page.locator("section.verdict")).to_be_visible()
    analysis_id = page.locator("#analysis").get_attribute("data-id")
    stored = requests.get(f"{site}/v1/analyses/{analysis_id}/image", timeout=30).content
    width, height = Image.open(io.BytesIO(stored)).size
    assert ((width, height) == size) == same
    assert width * height <= 12_000_000
    assert width / height == pytest.approx(4 / 3, abs=0.001)


def test_a_photo_that_the_browser_cannot_show_is_sent_all_the_same(open_page):
    import pillow_heif

    pillow_heif.register_heif_opener()
    heic = encoded(Image.open(io.BytesIO(lesion_photograph(2))), "HEIF")
    page = open_page()
    page.get_by_label("Choose photos").set_input_files(as_file(heic, "application/octet-stream"))
    expect(page.locator("#framing")).to_have_text("This browser cannot show this photo, but it can be sent.")
    page.get_by_role("button", name="Look at this spot").click()
    expect(page.locator("section.verdict")).to_be_visible()


def test_a_file_that_is_no_photo_is_explained_beside_the_form(open_page):
    page = open_page(tolerate="415")
    page.get_by_label("Choose photos").set_input_files(as_file(b"Dear doctor, this is a letter.", "text/plain"))
    page.get_by_role("button", name="Look at this spot").click()
    expect(page.get_by_role("alert")).to_contain_text("This file is not a photo")
    expect(page.get_by_role("button", name="Look at this spot")).to_be_enabled()


def test_a_file_above_the_limit_is_not_even_sent(open_page):
    page = open_page()
    page.evaluate(
        """() => {
             const files = new DataTransfer();
             files.items.add(new File([new Uint8Array(15_000_001)], "photo.jpg", { type: "image/jpeg" }));
             document.querySelector("#drop").dispatchEvent(
               new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
           }"""
    )
    expect(page.locator("#framing")).to_contain_text("cannot show")
    page.get_by_role("button", name="Look at this spot").click()
    expect(page.get_by_role("alert")).to_contain_text("larger than 15 MB")


def test_a_photo_that_had_arrived_with_other_settings_is_told_from_an_unusable_one(open_page):
    """The answer was lost on its way, and a box was ticked before the next try."""
    page = open_page(tolerate="Failed to load resource")
    button = page.get_by_role("button", name="Look at this spot")
    problem = page.get_by_role("alert")
    page.get_by_label("Choose photos").set_input_files(as_file(lesion_photograph(1)))
    expect(page.locator("#preview")).to_be_visible()

    def lose(route: Route) -> None:
        assert route.fetch().status == 202
        route.abort()

    page.route("**/v1/analyses", lose, times=1)
    button.click()
    expect(problem).to_contain_text("The connection was lost")
    page.get_by_label("Do not store my photo").check()
    button.click()
    expect(problem).to_contain_text("This photo has already arrived, with other settings.")
    page.get_by_label("Do not store my photo").uncheck()
    button.click()
    expect(page.locator("section.verdict")).to_be_visible()


def test_the_same_file_can_be_chosen_once_more(open_page):
    """A browser tells only that another file was chosen, so none may be left in the field."""
    page = open_page()
    field = page.get_by_label("Choose photos")
    field.set_input_files(as_file(lesion_photograph(1)))
    expect(page.locator("#preview")).to_be_visible()
    with page.expect_file_chooser():
        field.click(force=True)
    assert field.evaluate("field => field.files.length") == 0
    expect(page.locator("#preview")).to_be_visible()


def made_skin(*, at=(0.5, 0.5), radius=0.2, side=480) -> np.ndarray:
    """Skin with a round spot: `at` and `radius` as shares of the side; no spot where the radius is 0."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    pixels = np.full((side, side, 3), (214, 170, 150), np.float32)
    pixels += cv2.GaussianBlur(rng.normal(0, 40, pixels.shape).astype(np.float32), (0, 0), 5)
    pixels += rng.normal(0, 3, pixels.shape)
    beyond = np.clip((np.hypot(x - at[0] * side, y - at[1] * side) - radius * side) / 6, -30, 30)
    if radius:
        pixels -= (1 / (1 + np.exp(beyond)))[..., None] * np.array((110, 105, 95))
    return pixels.clip(0, 255).astype(np.uint8)


def reflecting() -> np.ndarray:
    pixels = made_skin()
    cv2.ellipse(pixels, (144, 86), (130, 60), 20, 0, 360, (255, 255, 255), -1)
    return pixels


def made_badly(fault: str) -> bytes:
    lesion = Image.open(io.BytesIO(lesion_photograph(3))).convert("RGB")
    pixels = np.asarray(lesion, dtype=np.float32)
    made = {
        "too_dark": lambda: Image.fromarray((pixels * 0.05).astype(np.uint8)),
        "too_bright": lambda: Image.fromarray(np.clip(pixels * 0.03 + 247, 0, 255).astype(np.uint8)),
        "too_blurred": lambda: lesion.filter(ImageFilter.GaussianBlur(max(lesion.size) / 12)),
        "blank": lambda: Image.new("RGB", lesion.size, (190, 150, 130)),
        "too_small": lambda: lesion.resize((60, 48)),
        "not_a_lesion": drawn_city,
        "glare": lambda: Image.fromarray(reflecting()),
        "no_lesion_found": lambda: Image.fromarray(made_skin(radius=0)),
        "off_centre": lambda: Image.fromarray(made_skin(at=(0.87, 0.13), radius=0.09)),
        "cut_off": lambda: Image.fromarray(made_skin(at=(0.5, 1.0), radius=0.5)),
    }
    return encoded(made[fault](), quality=92)


def drawn_city() -> Image.Image:
    """Houses with windows under a blue sky."""
    picture = Image.new("RGB", (500, 400), (90, 160, 240))
    draw = ImageDraw.Draw(picture)
    for left, top, colour in ((10, 150, (200, 60, 50)), (140, 60, (240, 220, 90)), (270, 190, (60, 70, 80))):
        draw.rectangle((left, top, left + 115, 400), fill=colour)
        for x in range(left + 12, left + 100, 28):
            for y in range(top + 14, 390, 34):
                draw.rectangle((x, y, x + 14, y + 20), fill=(250, 250, 255), outline=(20, 20, 20), width=2)
    draw.ellipse((400, 20, 470, 90), fill=(255, 245, 120))
    draw.rectangle((390, 260, 500, 400), fill=(30, 140, 50))
    return picture


@pytest.mark.parametrize(
    ("fault", "heading"),
    [
        ("too_dark", "too dark"),
        ("too_bright", "overexposed"),
        ("too_blurred", "out of focus"),
        ("blank", "one even colour"),
        ("not_a_lesion", "does not look like a spot on skin"),
    ],
)
def test_a_bad_photo_is_refused_with_advice_and_answered_only_on_demand(open_page, keep, fault, heading):
    page = open_page("/")
    page.get_by_label("Choose photos").set_input_files(as_file(made_badly(fault)))
    page.get_by_role("button", name="Look at this spot").click()
    expect(page.locator("h1")).to_have_text(re.compile(heading))
    keep(page, f"refused-{fault}")
    expect(page.get_by_role("link", name="Take another photo")).to_be_visible()
    page.get_by_role("button", name="Use it anyway").click()
    expect(page.locator("section.verdict")).to_be_visible()
    if fault == "not_a_lesion":
        expect(page.locator("section.verdict")).to_contain_text("the numbers below mean nothing")
    answer = page.locator("#analysis").get_attribute("data-id")
    page.goto("/history")
    expect(page.locator(f'.entry[data-id="{answer}"]')).to_contain_text("%")
    expect(page.locator(".entry")).to_have_count(2)  # beside it the refused one, which can be deleted here, too


def test_a_photo_that_is_too_small_is_refused_for_good(open_page, keep):
    page = open_page("/", tolerate="422")
    page.get_by_label("Choose photos").set_input_files(as_file(made_badly("too_small")))
    page.get_by_role("button", name="Look at this spot").click()
    expect(page.get_by_text("The image is too small to judge")).to_be_visible()
    keep(page, "refused-too_small")
    expect(page.get_by_role("button", name="Use it anyway")).to_have_count(0)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("glare", "The skin reflects the light"),
        ("no_lesion_found", "No spot stands out from the skin"),
        ("off_centre", "The spot is far from the middle"),
        ("cut_off", "The spot reaches over the edge"),
    ],
)
def test_what_would_make_the_photo_better_is_said_before_any_answer(open_page, as_if_not_forced, keep, fault, words):
    page = open_page()
    page.get_by_label("Choose photos").set_input_files(as_file(made_badly(fault)))
    page.get_by_role("button", name="Look at this spot").click()
    expect(page.locator("section.verdict")).to_be_visible()
    as_if_not_forced(page.locator("#analysis").get_attribute("data-id"))
    page.reload()
    expect(page.locator("#held")).to_contain_text(words)
    keep(page, f"held-{fault}")
    expect(page.locator("section.verdict")).to_have_count(0)
    expect(page.get_by_role("link", name="Take another photo")).to_be_visible()

    page.get_by_role("link", name="Use it anyway").click()
    expect(page.locator("#concerns")).to_contain_text(words)
    keep(page, f"advice-{fault}")
    concerns, verdict = page.locator("#concerns").bounding_box(), page.locator("section.verdict").bounding_box()
    assert concerns["y"] < verdict["y"]


def test_the_list_of_spots_does_not_run_ahead_of_a_photo_that_could_be_better(open_page, site, as_if_not_forced):
    analysis_id = ended(site, made_badly("glare"), force="true")
    as_if_not_forced(analysis_id)
    page = open_page("/history")
    page.evaluate(SENT, analysis_id)
    page.reload()
    entry = page.locator(".entry")
    expect(entry).to_contain_text("could be better")
    expect(entry).not_to_contain_text("%")

    entry.get_by_role("link").click()
    page.get_by_role("link", name="Use it anyway").click()
    expect(page.locator("section.verdict")).to_be_visible()
    page.goto("/history")
    expect(entry).to_contain_text("%")
    entry.get_by_role("link").click()
    expect(page.locator("section.verdict")).to_be_visible()
