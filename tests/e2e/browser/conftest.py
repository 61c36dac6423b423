"""A real browser before the real product. Without Chromium these tests are skipped, but not where CI is set."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.e2e.product import ROOT

#: Headless, without a sandbox (root in a container has none) and without asking anything of the outside.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
SIZES = {"phone": PHONE, "desktop": DESKTOP}

#: Milliseconds that anything on a page may take on a busy build machine.
PATIENCE_MS = 30_000

#: Where screenshots go; a build keeps them.
ARTEFACTS = ROOT / "artefacts" / "browser"

Open = Callable[..., Page]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        reason = "Chromium is not installed (apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest) -> str:
    """Address of the product under test; `LESIONLENS_URL` names one that runs already."""
    running = os.environ.get("LESIONLENS_URL")
    return running or str(request.getfixturevalue("product").base_url)


@pytest.fixture(scope="session")
def as_if_not_forced(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Tells the record that nobody said “use it anyway” about an analysis.

    The networks take a drawing for no lesion, so it is answered by force alone: whoever sent it has been told before.
    """
    if os.environ.get("LESIONLENS_URL"):
        pytest.skip("needs the database of the product under test")
    folder = request.getfixturevalue("product").folder
    url = f"postgresql+psycopg2://postgres@/lesionlens?host={folder}/run/postgres"

    def told(analysis_id: str) -> None:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            changed = connection.execute(
                sa.text("UPDATE analysis SET force = false WHERE id = :id"), {"id": uuid.UUID(analysis_id)}
            )
        assert changed.rowcount == 1

    return told


@pytest.fixture
def open_page(chromium: Browser, site: str) -> Iterator[Open]:
    """Opens a page in a browser of its own; at the end, nothing may have been blocked, broken or complained about."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def opened(path: str = "/?force=1", *, size: str = "phone", tolerate: str = "", **options: Any) -> Page:
        context = chromium.new_context(base_url=site, **({"locale": "en-GB"} | SIZES[size] | options))
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type == "error" and not (tolerate and tolerate in message.text)
                else None
            ),
        )
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def keep() -> Callable[[Page, str], None]:
    """Keeps two screenshots of a page: the whole of it, and what is seen first (docs/images/ shows two of these)."""

    def kept(page: Page, name: str) -> None:
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)
        page.screenshot(path=ARTEFACTS / f"{name}-first-view.png")

    return kept
