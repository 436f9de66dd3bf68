"""Somebody watches a real worker measure a submission, on a page that is never loaded again, and cancels another."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.end_to_end.test_browser import CHROMIUM, PHONE, browser
from tests.end_to_end.test_fleet import _free_host
from tests.end_to_end.test_serve import DEADLINE_SECONDS, ROOT, wait_for

__all__ = ["browser"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: install chromium or name one in CHROMIUM")

SUBMIT = """
import django
django.setup()
from dataclasses import replace
from pathlib import Path
from django.contrib.auth.models import User
from evaluator.shipped import SMOKE
from leaderboard import services
ann = User.objects.create_user("ann", password="a long enough one")
endless = replace(SMOKE, flatness=replace(SMOKE.flatness, samples=1000))
for title, protocol in ("Quick", SMOKE), ("Endless", endless):
    submission = services.submit(Path("fixtures/tiny.safetensors"), title=title, protocol=protocol, owner=ann)
    print(f"/submissions/{submission.run_id}/")
"""


@pytest.fixture
def served(tmp_path: Path, variables: dict[str, str]) -> Iterator[str]:
    """Serve the whole site, with workers, and return its address."""
    address = f"http://{_free_host()}"
    command = [sys.executable, "manage.py", "serve", address.removeprefix("http://")]
    environment = variables | {"OMP_NUM_THREADS": "1"}
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT) as serving,
    ):
        try:
            wait_for(f"{address}/queue/", "Nothing waits")
            yield address
        finally:
            serving.send_signal(signal.SIGINT)
            serving.wait(DEADLINE_SECONDS)


def test_a_submission_is_watched_until_it_is_published_and_another_is_cancelled(
    served: str, variables: dict[str, str], browser: Browser
) -> None:
    page = browser.new_context(viewport=PHONE).new_page()
    page.set_default_timeout(1000 * DEADLINE_SECONDS)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    submitted = subprocess.run(
        [sys.executable, "-c", SUBMIT], cwd=ROOT, env=variables, check=True, capture_output=True, text=True
    )
    quick, endless = submitted.stdout.split()
    page.goto(f"{served}{quick}")
    page.evaluate("window.neverLoadedAgain = true")
    assert page.locator("form").count() == 0
    standing = page.get_by_role("status")
    expect(standing).to_contain_text("Being measured", timeout=1000 * DEADLINE_SECONDS)
    expect(standing).to_contain_text("Published", timeout=1000 * DEADLINE_SECONDS)
    assert page.evaluate("window.neverLoadedAgain")
    assert re.search(r"(\d+) of \1 examples over all stages, 100 %", page.locator(".progress-line").inner_text())
    assert page.locator("#standing[hx-get]").count() == 0

    _sign_in(page, served)
    page.goto(f"{served}{endless}")
    expect(page.get_by_role("status")).to_contain_text("Being measured", timeout=1000 * DEADLINE_SECONDS)
    page.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("The run is cancelled.")).to_be_visible()
    expect(page.locator("#standing")).to_contain_text("Cancelled. It can be run again.")
    assert page.get_by_role("button", name="Run again").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert complaints == []


def _sign_in(page: Page, address: str) -> None:
    page.goto(f"{address}/account/login/")
    page.locator("[name=login]").fill("ann")
    page.locator("[name=password]").fill("a long enough one")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}/")
