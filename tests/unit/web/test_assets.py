"""Style, scripts and icons: light, self-contained, cached for good."""

from __future__ import annotations

import re
import struct

import pytest

from services.gateway.web.assets import ASSET_BUDGET_BYTES, STATIC, asset_version

#: Ten segments of 1,460 bytes (RFC 6928), less what headers take.
FIRST_FLIGHT_BYTES = 10 * 1_460 - 1_000


def test_all_assets_together_stay_within_the_budget():
    assert 0 < sum(path.stat().st_size for path in STATIC.rglob("*") if path.is_file()) < ASSET_BUDGET_BYTES


@pytest.mark.parametrize("language", ["en", "de", "es", "fr"])
def test_the_first_page_arrives_in_one_round_trip(client, language):
    """Form and framing guide are in the HTML, scripts wait, and all of it fits what TCP sends before any answer."""
    page = client.get("/", headers={"Accept-Language": language}).get_data(as_text=True)
    assert len(page.encode()) < FIRST_FLIGHT_BYTES
    assert all('type="module"' in script for script in re.findall(r"<script[^>]*>", page))


@pytest.mark.parametrize("path", sorted([*STATIC.glob("*.js"), *STATIC.glob("*.css")]), ids=lambda path: path.name)
def test_assets_load_nothing_from_other_sites_and_evaluate_nothing(path):
    source = path.read_text()
    assert not re.search(r"https?://|url\(|@import|\beval\b|innerHTML|insertAdjacentHTML|document\.write", source)


def test_modules_import_only_modules_that_exist():
    for path in STATIC.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', path.read_text()):
            assert (STATIC / name).is_file()


def test_the_present_version_is_kept_for_good_and_others_are_asked_for_again(client):
    present = client.get(f"/assets/{asset_version()}/page.css").headers["Cache-Control"]
    assert "immutable" in present
    assert "max-age=31536000" in present
    assert "immutable" not in client.get("/assets/older/page.css").headers["Cache-Control"]


@pytest.mark.parametrize("name", ["nothing.js", "../assets.py", "%2e%2e/pages.py"])
def test_nothing_beside_the_assets_is_served(client, name):
    assert client.get(f"/assets/{asset_version()}/{name}").status_code == 404


def test_the_manifest_names_icons_of_the_size_they_have(client):
    manifest = client.get("/manifest.webmanifest")
    assert manifest.mimetype == "application/manifest+json"
    for icon in manifest.json["icons"]:
        content = client.get(icon["src"]).get_data()
        if icon["type"] == "image/png":
            assert "{}x{}".format(*struct.unpack(">II", content[16:24])) == icon["sizes"]


def test_a_browser_s_blind_wish_for_a_favicon_is_met(client):
    assert client.get("/favicon.ico", follow_redirects=True).mimetype == "image/png"
