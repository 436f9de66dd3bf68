"""Every public page names the JSON that says the same, and that is there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from leaderboard.access import Rule
from tests.leaderboard import factory
from tests.leaderboard.test_access import views
from tests.leaderboard.test_matrix import filled

pytestmark = pytest.mark.django_db

FORMS = ("/submit/", "/account/", "/object/", "/edit/", "/moderation/objections/", "/moderation/rerun/", "/cancel")
"""What is for people to fill in; programs have the API."""

PARTS = ("/live", "/api/v1/docs")
"""What is a part of another page, or the description of the API itself."""

TWIN = re.compile(r'<link rel="alternate" type="application/json" href="([^"]+)">')


@pytest.fixture
def about(tmp_path: Path) -> dict[str, str]:
    """Publish two entries and what others reported; return what stands for the parameters of addresses."""
    call_command("import_reference")
    first, second = (factory.published(tmp_path, f"entry {number}", number=number) for number in range(2))
    return {"slug": first.slug, "run_id": str(first.run_id), "query": f"?e={first.slug}&e={second.slug}"}


def pages(rules: tuple[Rule, ...], about: dict[str, str]) -> Iterator[str]:
    for address, view in views().items():
        method, _, route = address.partition(" ")
        if method == "GET" and view.rule in rules and not any(part in route for part in (*FORMS, *PARTS)):
            yield filled(route, "1", (about["run_id"], about["slug"])) + (about["query"] if "compare" in route else "")


def twins(client: Client, addresses: Iterator[str]) -> dict[str, object]:
    """Return the JSON that each page names, by the page's address."""
    found = {}
    for address in addresses:
        response = client.get(address)
        if response.status_code != 200 or not response.headers["Content-Type"].startswith("text/html"):
            continue
        named = TWIN.findall(response.content.decode())
        assert len(named) == 1, f"{address} names no JSON"
        twin = client.get(named[0].replace("&amp;", "&"))
        assert (twin.status_code, twin.headers["Content-Type"].partition(";")[0]) == (200, "application/json"), named
        found[address] = json.loads(twin.content)
    return found


def test_every_public_page_names_its_json(about: dict[str, str]) -> None:
    found = twins(Client(), pages((Rule.PUBLIC, Rule.VISIBLE), about))
    expected = {
        "/", "/analysis/", f"/entries/{about['slug']}/", f"/compare/{about['query']}", "/queue/", "/protocols/",
        "/reported/", "/about/", f"/submissions/{about['run_id']}/",
    }  # fmt: skip
    assert found.keys() == expected
    assert [entry["title"] for entry in found["/"]["entries"]] == ["entry 0", "entry 1"]
    assert "digits-demo" in {one["name"] for one in found["/protocols/"]["protocols"]}
    assert "robust_loss" in {one["key"] for one in found["/about/"]["metrics"]}
    assert len(found["/reported/"]["reported"]) == 19 + 135
    assert found[f"/submissions/{about['run_id']}/"]["state"] == "published"


def test_every_page_of_staff_names_its_json(about: dict[str, str]) -> None:
    user = User.objects.create_user("eve", is_staff=True)
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={})
    client = Client()
    client.force_login(user)
    found = twins(client, pages((Rule.STAFF,), about))
    assert found.keys() == {"/moderation/", "/moderation/trail/", "/train/"}
    assert found["/moderation/"]["failed"] == {"total": 0, "first": []}


def test_the_json_of_a_private_submission_is_for_its_owner_alone(tmp_path: Path) -> None:
    submission = factory.submit(tmp_path, "Secret")
    owner = User.objects.create_user("ada")
    submission.owner, submission.is_private, submission.authors = owner, True, "A. Lovelace"
    submission.save()
    address = f"/submissions/{submission.run_id}.json"
    assert Client().get(address).status_code == 404
    mine = Client()
    mine.force_login(owner)
    assert mine.get(address).json()["authors"] == "A. Lovelace"
