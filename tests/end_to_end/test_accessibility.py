"""axe-core finds no serious fault on any page: light and dark, on a desktop and on a phone.

The pages are those of the address table, so that a new one is looked at without being named here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, Page
from pytest_django.live_server_helper import LiveServer

from evaluator.exceptions import Fault
from evaluator.shipped import DIGITS_DEMO
from leaderboard import objections, services, trail
from leaderboard.models import State, Submission
from tests.end_to_end.test_browser import CHROMIUM, DESKTOP, PHONE, browser
from tests.leaderboard import crowd, factory
from tests.leaderboard.test_access import views
from tests.leaderboard.test_matrix import filled
from trainers.recipe import load_recipe

__all__ = ["browser"]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="NO BROWSER: install chromium or name one in CHROMIUM"),
    pytest.mark.django_db(transaction=True),
]

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
RUN = """
async rules => {
  const found = await axe.run(document, {resultTypes: ["violations"], ...(rules ? {runOnly: rules} : {})});
  const said = node => `${node.html.slice(0, 160)} ${node.failureSummary}`;
  return found.violations
    .filter(one => ["serious", "critical"].includes(one.impact))
    .map(one => `${one.id}: ${one.nodes.slice(0, 3).map(said).join(" | ")}`);
}
"""
TWICE = """
() => {
  const names = [...document.querySelectorAll("[id]")].map(one => one.id);
  return names.filter((name, place) => names.indexOf(name) !== place);
}
"""
"""Ids that several elements have: a label, a link or the frame of a drawing then means the first."""
CHANGED_BY_COLOUR = ["color-contrast", "link-in-text-block"]
VARIANTS = ("digits/at", "digits/awp", "digits/trades", "digits/mart")
MORE = ("/?beside=2&columns=rank", "/?q=trades", "/analysis/?study=none")
"""Further states of pages: what an address alone does not show."""


class Looked(NamedTuple):
    """A page and who looks at it."""

    path: str
    who: str


@pytest.fixture
def people(tmp_path: Path) -> dict[str, Client]:
    """Publish a crowd, four of it a study, and an entry with everything; return whose submission waits, and others."""
    user = User.objects.create_user("ann", password="a long enough one")
    crowd.publish(52, DIGITS_DEMO)
    for name, submission in zip(VARIANTS, Submission.objects.order_by("pk"), strict=False):
        recipe = load_recipe(name)
        notes = {"recipe_digest": recipe.digest, "seed": "0", "epoch": f"{recipe.epochs} of {recipe.epochs}"}
        submission.manifest |= {"recipe": name, "notes": notes}
        submission.is_reference = True
        submission.save()
    factory.published(tmp_path, "Published", number=1)
    waiting = factory.submit(tmp_path, "Waiting", number=2)
    Submission.objects.filter(pk=waiting.pk).update(owner=user, is_private=True)
    owner = Client()
    owner.force_login(user)
    owner.post("/account/reauthenticate/", {"password": "a long enough one"})  # for the pages of tokens and factors
    return {"owner": owner, "staff": staff(), "reader": Client()}


def staff() -> Client:
    """Return who decides, once there is something of every kind to decide."""
    user = User.objects.create_user("staff", is_staff=True)
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={})
    first, second, third = Submission.objects.filter(is_reference=False).order_by("pk")[:3]
    services.suspend(first, "a reason for everybody")
    Submission.objects.filter(pk=second.pk).update(state=State.FAILED, fault=Fault.OURS, failure="the machine burnt")
    objections.object_to(third, user, "a text that is long enough")
    trail.record(user, "keep", "a reason", submission=second)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def pages(people: dict[str, Client]) -> list[Looked]:
    """Return every address that answers with a whole page, once, for whoever sees most of it."""
    published, waiting = (Submission.objects.get(title=title) for title in ("Published", "Waiting"))
    references = Submission.objects.filter(is_reference=True)[:3]
    query = "&".join(f"e={one.slug}" for one in references)
    routes = [address.partition(" ")[2] for address in views() if address.startswith("GET ") and "/api/" not in address]
    paths = dict.fromkeys(
        filled(route, "1", (one.run_id, one.slug)) for route in routes for one in (published, waiting)
    )
    found = []
    for path in (*paths, *MORE, f"/compare/?{query}"):
        for who, client in people.items():
            answer = client.get(path)
            if answer.status_code == 200 and b"<html" in answer.getvalue():
                found.append(Looked(path, who))
                break
    return found


def faults(page: Page) -> Iterator[str]:
    """Yield what axe-core calls serious or critical of a page that is open, and ids that are there twice."""
    if page.locator("[data-specification]").count():
        page.locator("[data-specification]").first.scroll_into_view_if_needed()  # before, none comes to life
        page.locator(".live-chart svg").first.wait_for()
    for name in page.evaluate(TWICE):
        yield f"the id {name} is there twice"
    page.evaluate(AXE)
    for viewport, scheme, rules in (
        (DESKTOP, "light", None), (DESKTOP, "dark", CHANGED_BY_COLOUR),
        (PHONE, "dark", CHANGED_BY_COLOUR), (PHONE, "light", None),
    ):  # fmt: skip
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=scheme)
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        for fault in page.evaluate(RUN, rules):
            yield f"{scheme}, {viewport['width']} px: {fault}"


def test_no_page_has_a_serious_fault(
    people: dict[str, Client], pages: list[Looked], live_server: LiveServer, browser: Browser
) -> None:
    tabs = {who: browser.new_context(reduced_motion="reduce").new_page() for who in people}
    for who, client in people.items():
        cookies = [{"name": name, "value": one.value, "url": live_server.url} for name, one in client.cookies.items()]
        tabs[who].context.add_cookies(cookies)
    found: list[str] = []
    for path, who in pages:
        tabs[who].goto(f"{live_server.url}{path}")
        found += [f"{path}: {fault}" for fault in faults(tabs[who])]
    assert not found, "\n".join(found)
    looked = {path for path, _ in pages}
    assert {
        "/",
        "/about/",
        "/compare/",
        "/analysis/",
        "/queue/",
        "/account/login/",
        "/account/tokens/",
        "/moderation/",
    } <= looked


def test_axe_sees_faults_that_are_there(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content('<html lang="en"><main><input><p style="color: #ccc">faint</p></main></html>')
    seen = "".join(faults(page))
    assert "label" in seen
    assert "color-contrast" in seen


def test_what_was_asked_in_vain_is_said_once(client: Client) -> None:
    page = client.get("/analysis/", {"study": "none"}).content.decode()
    assert page.count("Showing digits instead") == 1
