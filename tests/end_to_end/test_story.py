"""An entry's whole life on a real site with a real worker, seen by two people in browsers, one of them without scripts.

One signs up, is told what is wrong with a file, hands in another, watches it, finds it ranked, compares it, and finds
its number in a downloaded file. The other hands in a private one, publishes it, and withdraws it.
"""

import csv
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.end_to_end.test_browser import CHROMIUM, browser
from tests.end_to_end.test_serve import DEADLINE_SECONDS, ROOT
from tests.end_to_end.test_watching import served

__all__ = ["browser", "served"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: install chromium or name one in CHROMIUM")

PATIENCE = 1000.0 * DEADLINE_SECONDS
ROBUST, SECRET = ROOT / "fixtures" / "digits-at.safetensors", ROOT / "fixtures" / "tiny.safetensors"
HIDDEN, WORD = "Zanzibar Pearl", "pearl"
ADDRESSES = (
    "/", "/?q=zanzibar", "/board.csv", "/board.json?q=zanzibar", "/feed.atom", "/queue/", "/queue.json",
    "/api/v1/board?protocol=smoke", "/compare/?e={slug}", "/compare.json?e={slug}", "/compare.csv?e={slug}",
    "/figures/robust-loss-against-flatness.svg", "/entries/{slug}/", "/entries/{slug}/badge.svg",
    "/entries/{slug}/cite.bib", "/submissions/{run_id}/", "/submissions/{run_id}/live",
)  # fmt: skip
"""Where somebody who knows the addresses of a private entry might look for it."""


@pytest.fixture
def variables(variables: dict[str, str]) -> dict[str, str]:
    return variables | {"DJANGO_SETTINGS_MODULE": "tests.end_to_end.ranked_smoke"}


@pytest.fixture
def ann(served: str, browser: Browser) -> Page:
    return signed_up(browser.new_context(base_url=served).new_page(), "ann")


@pytest.fixture
def bob(served: str, browser: Browser) -> Page:
    return signed_up(browser.new_context(base_url=served, java_script_enabled=False).new_page(), "bob")


def signed_up(page: Page, name: str) -> Page:
    page.set_default_timeout(PATIENCE)
    page.goto("/")
    page.get_by_role("link", name="Sign in").click()
    page.get_by_role("link", name="sign up").click()
    page.locator("[name=username]").fill(name)
    for field in ("password1", "password2"):
        page.locator(f"[name={field}]").fill("a long enough one")
    page.locator("[name=password2]").press("Enter")
    expect(page.get_by_role("navigation", name="You")).to_contain_text(name)
    return page


def hand_in(page: Page, path: Path, title: str, *, private: bool = False) -> None:
    page.goto("/submit/")
    page.get_by_label("Checkpoint").set_input_files(path)
    page.get_by_label("Protocol").select_option("smoke")
    page.get_by_label("Title").fill(title)
    page.get_by_label("Private", exact=True).set_checked(private)
    page.get_by_label("I may hand in").check()
    page.get_by_role("button", name="Hand in").click()


def refused(page: Page, path: Path) -> None:
    hand_in(page, path, "Wrong")
    expect(page.locator(".drop .text-danger p")).to_have_count(1)
    assert "safetensors" in page.locator(".drop .text-danger").inner_text()
    assert page.get_by_label("Title").input_value() == "Wrong"


def search(page: Page, words: str) -> None:
    page.goto("/")
    page.get_by_label("Words to look for").fill(words)
    page.get_by_role("button", name="Search").click()


def seen(page: Page, slug: str, run_id: str) -> list[str]:
    """Return the addresses of a private or withdrawn entry at which somebody finds its title."""
    found = []
    for path in ADDRESSES:
        answer = page.request.get(path.format(slug=slug, run_id=run_id))
        assert answer.status < 500, path
        if WORD in answer.text().lower().replace(slug, ""):  # a page may repeat what was asked for
            found.append(path)
    return found


def test_an_entry_is_handed_in_watched_found_compared_and_downloaded_and_another_hidden_shown_and_withdrawn(
    tmp_path: Path, ann: Page, bob: Page
) -> None:
    (tmp_path / "notes.safetensors").write_text("not a checkpoint")
    refused(ann, tmp_path / "notes.safetensors")
    refused(bob, tmp_path / "notes.safetensors")

    hand_in(ann, ROBUST, "Robust")
    expect(ann.get_by_role("status")).to_contain_text("Published", timeout=PATIENCE)
    hand_in(bob, SECRET, HIDDEN, private=True)
    while "private" not in bob.get_by_role("status").first.inner_text():
        bob.wait_for_timeout(500)
        bob.reload()  # as its reader's browser does, which runs no scripts
    address = bob.url
    run_id = urlsplit(address).path.split("/")[2]

    search(ann, "zanzibar")
    expect(ann.get_by_text("0 of 1 entries")).to_be_visible()
    slug = f"zanzibar-{WORD}-{run_id[:8]}"
    assert seen(ann, slug, run_id) == []
    assert seen(bob, slug, run_id) == ["/entries/{slug}/", "/submissions/{run_id}/"]  # the first leads to the second

    bob.get_by_role("button", name="Publish").click()
    expect(bob.get_by_text("Everybody can see it now.")).to_be_visible()
    search(ann, "robust")
    expect(ann.locator("tbody th a")).to_have_text(["Robust"])
    assert ann.locator("tbody .rank").inner_text().strip() == "1"
    ann.get_by_role("link", name="all entries").click()
    for title in ("Robust", HIDDEN):
        ann.get_by_label(f"Compare {title}").check()
    ann.get_by_role("button", name="Compare").click()
    expect(ann.locator("[aria-labelledby=pairs] tbody tr")).to_have_count(1)
    ann.go_back()
    shown = [row.inner_text() for row in ann.locator("[aria-labelledby=board-caption] tbody tr").all()]
    with ann.expect_download() as download:
        ann.get_by_text("This view:").get_by_role("link", name="CSV", exact=True).click()
    with download.value.path().open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["title"] for row in rows] == ["Robust", HIDDEN]
    for row, text in zip(rows, shown, strict=True):
        assert f"{100 * float(row['robust_error_test']):.1f}" in text
        assert f"{float(row['robust_loss_test']):.2f}" in text

    bob.goto(address)
    bob.get_by_text("Withdraw …").click()
    bob.get_by_role("button", name="Withdraw for good").click()
    expect(bob.get_by_text("It is withdrawn.")).to_be_visible()
    assert seen(ann, slug, run_id) == ["/entries/{slug}/", "/submissions/{run_id}/"]
    ann.goto(f"/entries/{slug}/")
    expect(ann.locator("main")).to_contain_text("This submission was withdrawn on")
    search(ann, "robust")
    expect(ann.get_by_text("1 of 1 entries")).to_be_visible()
