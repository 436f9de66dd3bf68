"""Somebody drops a file onto the form in a real browser, is told what is wrong, and lands where it is followed."""

import base64
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, Page, expect

from tests.end_to_end.test_browser import CHROMIUM, PHONE, browser
from tests.test_house import ROOT

__all__ = ["browser"]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: install chromium or name one in CHROMIUM"),
    pytest.mark.django_db(transaction=True),
]

TINY = ROOT / "fixtures" / "tiny.safetensors"
DROP = """([place, content]) => {
    const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], "mine.safetensors"));
    place.dispatchEvent(new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer}));
}"""


@pytest.fixture
def signed_in() -> dict[str, str]:
    """Return the cookie of somebody who is signed in."""
    client = Client()
    client.force_login(User.objects.create_user("ada"))
    return {"name": settings.SESSION_COOKIE_NAME, "value": client.cookies[settings.SESSION_COOKIE_NAME].value}


def drop(page: Page, path: Path) -> None:
    content = base64.b64encode(path.read_bytes()).decode()
    page.evaluate(DROP, [page.locator(".drop").element_handle(), content])


def fill(page: Page, title: str) -> None:
    page.get_by_label("Protocol").select_option("smoke")
    page.get_by_label("Title").fill(title)
    page.get_by_label("I may hand in").check()


def test_a_file_is_dropped_refused_at_a_field_and_followed_and_sent_again_without_a_script(
    live_server, signed_in: dict[str, str], browser: Browser
) -> None:
    context = browser.new_context(viewport=PHONE)
    context.add_cookies([signed_in | {"url": live_server.url}])
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))

    page.goto(f"{live_server.url}/submit/")
    assert page.locator("fieldset:visible").count() == 0
    page.get_by_label("Architecture").select_option("digits-cnn")
    assert page.locator("fieldset:visible legend").all_inner_texts() == ["Small CNN"]
    page.get_by_label("Architecture").select_option("")
    drop(page, TINY)
    expect(page.locator("[data-chosen]")).to_contain_text("of at most 2.1 GB")
    fill(page, "Dropped")
    page.get_by_label("Paper").fill("https://example")  # enough for a browser, and not for us
    page.get_by_role("button", name="Hand in").click()
    expect(page.get_by_role("alert")).to_contain_text("begins with https")
    expect(page.get_by_label("Paper")).to_be_focused()
    expect(page.locator("[data-chosen]")).to_contain_text("of at most 2.1 GB")
    assert page.get_by_label("Checkpoint").evaluate("input => input.files[0].name") == "mine.safetensors"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    page.get_by_label("Paper").fill("https://example.org/paper")
    page.get_by_role("button", name="Hand in").click()
    page.wait_for_url("**/submissions/**")
    assert page.get_by_role("heading", level=1).inner_text() == "Dropped"
    assert complaints == []

    context = browser.new_context(java_script_enabled=False)
    context.add_cookies([signed_in | {"url": live_server.url}])
    plain = context.new_page()
    plain.goto(f"{live_server.url}/submit/")
    plain.get_by_label("Checkpoint").set_input_files(TINY)
    fill(plain, "Sent again")
    plain.get_by_role("button", name="Hand in").click()
    plain.wait_for_url(page.url)
    expect(plain.get_by_text("was handed in under this protocol before")).to_be_visible()
