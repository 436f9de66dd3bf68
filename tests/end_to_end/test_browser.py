"""A reader's way through the site in a real browser: light, dark, on a phone; nothing from elsewhere, no complaint."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from evaluator.shipped import DIGITS_DEMO
from tests.leaderboard import crowd, factory

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: install chromium or name one in CHROMIUM"),
    pytest.mark.django_db(transaction=True),
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser that talks to nobody but the page's server."""
    quiet = ("quic", "background-networking", "component-update", "sync")
    arguments = ["--no-sandbox", "--disable-gpu", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def address(tmp_path: Path, live_server) -> str:
    """Publish three entries and serve them."""
    for number, quality in enumerate((0.2, 0.9, 0.5)):
        factory.published(tmp_path, f"entry {number}", number=number, quality=quality)
    return live_server.url


@pytest.fixture
def crowded(live_server) -> str:
    """Publish sixty entries and serve them."""
    crowd.publish(60, DIGITS_DEMO)
    return live_server.url


def titles(page: Page) -> list[str]:
    return page.locator("tbody th a").all_inner_texts()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_reader_sorts_the_board_and_opens_an_entry(
    address: str, browser: Browser, scheme: str, viewport: dict[str, int]
) -> None:
    page = browser.new_context(color_scheme=scheme, viewport=viewport).new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))

    page.goto(address)
    assert titles(page) == ["entry 1", "entry 2", "entry 0"]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(",")) / 3
    assert (brightness < 128) == (scheme == "dark")

    page.get_by_role("link", name="Flatness test").click()
    page.get_by_role("link", name="Flatness test").click()
    assert page.url.endswith("sort=-flatness_test")
    assert titles(page) == ["entry 0", "entry 2", "entry 1"]

    page.locator(".live-chart").get_by_role("link", name="entry 1,").click()
    assert page.get_by_role("heading", level=1).inner_text() == "entry 1"
    for name in ("Analysis", "About", "Protocols", "Reported"):
        page.get_by_role("navigation", name="Site").get_by_role("link", name=name).click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.go_back()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    assert complaints == []
    assert [url for url in requests if not url.startswith((address, "data:"))] == []


def test_the_first_column_stays_in_sight_when_a_phone_scrolls_the_table(address: str, browser: Browser) -> None:
    page = browser.new_context(viewport=PHONE).new_page()
    page.goto(address)
    page.locator("[aria-labelledby=board-caption]").evaluate("frame => frame.scrollLeft = 400")
    board = page.locator("[aria-labelledby=board-caption]")
    frame, name = board.bounding_box(), board.locator("tbody th").first.bounding_box()
    assert frame is not None
    assert name is not None
    assert abs(name["x"] - frame["x"]) <= 2


def test_the_board_works_with_the_keyboard_alone(address: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.locator("tbody th a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/entries/**")
    assert page.get_by_role("heading", level=1).inner_text() == "entry 1"


def test_a_phone_without_scripts_narrows_searches_picks_and_turns_pages(crowded: str, browser: Browser) -> None:
    page = browser.new_context(viewport=PHONE, java_script_enabled=False).new_page()
    page.goto(crowded)
    assert len(titles(page)) == 50
    page.get_by_role("link", name="Page 2").click()
    assert len(titles(page)) == 10

    page.get_by_label("Words to look for").fill("trades")
    page.get_by_role("button", name="Search").click()
    assert page.url.endswith("&q=trades")
    assert len(titles(page)) == 15
    page.locator("summary", has_text="Trust").click()
    page.get_by_role("link", name="no flags 14").click()
    assert len(titles(page)) == 14
    page.locator("summary", has_text="Columns").click()
    page.get_by_label("Architecture").uncheck()
    page.get_by_role("button", name="Show these").click()
    assert page.get_by_role("columnheader", name="Architecture").count() == 0
    page.get_by_role("link", name="without trust: no flags").click()
    assert len(titles(page)) == 15
    with page.expect_download() as download:
        page.get_by_text("This view:").get_by_role("link", name="CSV").click()
    assert Path(download.value.path()).read_text().count("\n") == 16
