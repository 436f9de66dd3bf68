"""Charts in a real browser: live where scripts run, and the server's drawings where none do or anything fails."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from pytest_django.live_server_helper import LiveServer

from leaderboard import report
from leaderboard.analysis import STUDIES
from tests.end_to_end.test_browser import CHROMIUM, DESKTOP, PHONE, address, browser
from tests.leaderboard import factory
from tests.leaderboard.test_study_pages import CURVE

__all__ = ["address", "browser"]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: install chromium or name one in CHROMIUM"),
    pytest.mark.django_db(transaction=True),
]

FIGURES = 6
"""So many have numbers in the small study."""

WATCH = "window.refused = []; addEventListener('securitypolicyviolation', e => refused.push(e.violatedDirective));"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Return a page whose every complaint fails the test."""
    page = browser.new_context(viewport=DESKTOP, color_scheme="light").new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_init_script(WATCH)
    yield page
    assert complaints == []
    assert page.evaluate("window.refused ?? []") == []


@pytest.fixture
def study(tmp_path: Path, live_server: LiveServer) -> str:
    """Publish two variants, one of them with its way, and serve them; a report of the same lies beside."""
    for name in ("digits/at", "digits/awp"):
        factory.trained(tmp_path, name, quality=0.4)
    for epoch, quality in ((60, 0.9), (120, 0.1)):
        factory.trained(tmp_path, "digits/at", epoch=epoch, quality=quality, protocol=CURVE)
    report.write(STUDIES["digits"], tmp_path / "report")
    return live_server.url


TICKS = (
    "[...document.querySelector('.live-chart .role-axis-label').querySelectorAll('text')].map(one => one.textContent)"
)
"""What stands at the horizontal axis, in any order."""


def ticks(page: Page) -> list[str]:
    return sorted(page.evaluate(TICKS))


def wait_for_ticks(page: Page, wanted: list[str], *, same: bool) -> None:
    """Wait until other ticks than the wanted stand at the axis, or the same again."""
    page.wait_for_function(f"wanted => ({TICKS}.sort().join() === wanted.join()) === {str(same).lower()}", arg=wanted)


def test_a_reader_reads_zooms_and_follows_the_points_of_a_live_chart(address: str, page: Page) -> None:
    page.goto(address)
    point = page.locator(".live-chart").get_by_role("link", name="entry 1,")
    point.hover()
    tip = page.locator(".chart-tip")
    expect(tip).to_contain_text("entry 1")
    page.locator(".chart summary").click()
    cells = page.locator(".chart tbody tr", has_text="entry 1").locator("td").all_inner_texts()
    for name, cell in zip(("flatness test (nats)", "RLoss test (nats)"), cells, strict=False):
        assert re.fullmatch(r"\d\.\d+ \[\d\.\d+, \d\.\d+\]", cell)
        expect(tip).to_contain_text(f"{name}: {cell}")

    at_first = ticks(page)
    page.get_by_role("button", name="Zoom in").click()
    wait_for_ticks(page, at_first, same=False)
    page.get_by_role("button", name="Reset the view").click()
    wait_for_ticks(page, at_first, same=True)

    page.locator(".chart .scrolling").first.focus()
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
    wait_for_ticks(page, at_first, same=False)
    page.locator(".live-chart .background").first.dblclick(position={"x": 30, "y": 300})
    wait_for_ticks(page, at_first, same=True)

    point.focus()
    expect(tip).to_contain_text("entry 1")
    page.keyboard.press("Enter")
    page.wait_for_url("**/entries/**")
    assert page.get_by_role("heading", level=1).inner_text() == "entry 1"


def test_what_a_pointer_grabs_stays_under_it_however_large_the_chart_is_shown(address: str, page: Page) -> None:
    page.set_viewport_size({"width": 1600, "height": 1000})
    page.goto(address)
    point = page.locator(".live-chart").get_by_role("link", name="entry 1,")
    before = point.bounding_box()
    svg = page.locator(".live-chart svg")
    shown, own = svg.bounding_box(), float(svg.get_attribute("width") or 0)
    assert before is not None
    assert shown is not None
    assert shown["width"] > 1.2 * own  # or the test says nothing
    page.mouse.move(shown["x"] + shown["width"] / 2, shown["y"] + shown["height"] / 2)
    page.mouse.down()
    page.mouse.move(shown["x"] + shown["width"] / 2 + 40, shown["y"] + shown["height"] / 2 + 25, steps=4)
    page.mouse.up()
    page.wait_for_function(
        "x => Math.abs(document.querySelector('[aria-label^=\"entry 1,\"]').getBoundingClientRect().x - x) > 30",
        arg=before["x"],
    )
    after = point.bounding_box()
    assert after is not None
    assert after["x"] - before["x"] == pytest.approx(40, abs=2)
    assert after["y"] - before["y"] == pytest.approx(25, abs=2)


def test_a_live_chart_takes_the_colours_of_the_page_also_when_they_change(address: str, page: Page) -> None:
    page.goto(address)
    point = page.locator(".live-chart").get_by_role("link", name="entry 1,")
    colour = "node => getComputedStyle(node).fill"
    assert point.evaluate(colour) == "rgb(11, 94, 215)"
    page.emulate_media(color_scheme="dark")
    assert point.evaluate(colour) == "rgb(110, 168, 254)"


def test_a_series_goes_and_comes_back_at_a_button(study: str, page: Page) -> None:
    page.goto(f"{study}/analysis/")
    section = page.locator("section", has=page.locator("#robust-overfitting"))
    section.scroll_into_view_if_needed()
    points = section.locator(".live-chart .mark-symbol path")
    points.first.wait_for()
    expect(points).to_have_count(4)
    button = section.get_by_role("button", name="Show test")
    button.click()
    expect(points).to_have_count(2)
    expect(button).to_have_attribute("aria-pressed", "false")
    button.click()
    expect(points).to_have_count(4)


def test_where_anything_fails_the_drawing_stays(address: str, browser: Browser) -> None:
    for pattern in ("**/vega-lite.min.js", "**/*.vl.json*"):
        page = browser.new_context(viewport=PHONE).new_page()
        warned: list[str] = []
        page.on("console", lambda message, warned=warned: warned.append(message.text))

        def refuse(route: Route) -> None:
            route.fulfill(status=500)

        page.route(pattern, refuse)
        with page.expect_console_message(lambda message: "stays a drawing" in message.text):
            page.goto(address)
        assert page.locator(".live-chart").count() == 0
        assert page.locator("figure svg a").count() == 6
        assert page.locator(".chart-tools").count() == 0


def test_without_scripts_the_drawings_stand_and_lead_to_entries(address: str, browser: Browser) -> None:
    page = browser.new_context(java_script_enabled=False, viewport=PHONE).new_page()
    page.goto(address)
    page.locator("figure svg a", has_text="entry 1").click()
    assert page.get_by_role("heading", level=1).inner_text() == "entry 1"


def test_the_first_reader_of_a_study_sees_images_and_the_next_its_drawings(study: str, browser: Browser) -> None:
    page = browser.new_context(java_script_enabled=False, color_scheme="dark").new_page()
    page.goto(f"{study}/analysis/")
    images = page.locator("figure img")
    assert images.count() == FIGURES
    for image in images.all():
        image.scroll_into_view_if_needed()
        image.evaluate("image => image.decode()")
    page.reload()
    assert page.locator("figure svg").count() == FIGURES
    assert images.count() == 0


def test_a_report_opened_from_disk_shows_its_charts(study: str, page: Page, tmp_path: Path) -> None:
    page.goto((tmp_path / "report" / "index.html").as_uri())
    assert page.locator("figure svg").count() == FIGURES
    assert all(svg.is_visible() for svg in page.locator("figure svg").all())
