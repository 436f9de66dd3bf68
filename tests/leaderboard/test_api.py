"""The API says what the pages say, whole lists in pages, and nothing again to whoever has it."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from evaluator.shipped import DIGITS_DEMO, SMOKE
from leaderboard import services, tokens
from leaderboard.access import Scope
from leaderboard.api import api
from leaderboard.models import Submission
from tests.leaderboard import crowd, factory

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner() -> User:
    return User.objects.create_user("owner")


def bearer(owner: User, *scopes: Scope) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.make(owner, 'script', scopes, days=1)}"}


def pages(client: Client, address: str, items: str, **query: Any) -> list[list[dict[str, Any]]]:
    """Follow a list to its end."""
    found, after = [], ""
    while after is not None:
        document = client.get(address, {**query, "after": after}).json()
        found.append(document[items])
        after = document["next"]
    return found


@pytest.mark.parametrize("limit", [1, 3, 7, 8, 100])
@pytest.mark.parametrize("sort", ["rank", "-robust_loss_test", "title"])
def test_pages_of_the_board_are_the_board(client: Client, sort: str, limit: int) -> None:
    crowd.publish(8, DIGITS_DEMO)
    view = {"protocol": "digits-demo", "sort": sort, "architecture": "digits-cnn,digits-resnet"}
    found = pages(client, "/api/v1/board", "entries", limit=limit, **view)
    assert {len(page) for page in found[:-1]} <= {limit}
    slugs = [entry["slug"] for page in found for entry in page]
    assert slugs == [entry["slug"] for entry in client.get("/board.json", view).json()["entries"]]
    assert len(slugs) == 8


def test_the_board_is_narrowed_as_the_page_is(client: Client) -> None:
    crowd.publish(8, DIGITS_DEMO)
    for view in (
        {"q": "trades"},
        {"architecture": "digits-cnn", "sort": "-flatness_test"},
        {"division": "submitted"},
        {"columns": "robust_error_test"},
    ):
        document = client.get("/api/v1/board", view).json()
        twin = client.get("/board.json", view if "columns" in view else view | {"columns": "all"}).json()
        assert document["matching"] == len(twin["entries"])
        assert document["published"] == 8
        assert document["query"] == twin["query"]
        names = twin["entries"][0].keys()
        assert [{name: entry[name] for name in names} for entry in document["entries"]] == twin["entries"]


def test_what_comes_in_meanwhile_shifts_no_page(client: Client, tmp_path: Path) -> None:
    crowd.publish(4, DIGITS_DEMO)
    first = client.get("/api/v1/entries/", {"limit": 2}).json()
    factory.published(tmp_path)
    second = client.get("/api/v1/entries/", {"limit": 2, "after": first["next"]}).json()
    assert [entry["slug"] for page in (first, second) for entry in page["entries"]] == [
        f"entry-0-{number:05d}" for number in (3, 2, 1, 0)
    ]
    assert second["next"] is None


def test_a_place_that_is_gone_is_said(client: Client, owner: User) -> None:
    crowd.publish(1, DIGITS_DEMO)
    for address in ("/api/v1/board", "/api/v1/entries/", "/api/v1/submissions/"):
        answer = client.get(address, {"after": "gone"}, headers=bearer(owner, Scope.READ))
        assert answer.status_code == 400
        assert "'gone' any more; begin again without after" in answer.json()["detail"]


def test_whoever_has_it_is_not_sent_it_again_until_it_changes(client: Client, tmp_path: Path, owner: User) -> None:
    submission = factory.published(tmp_path)
    Submission.objects.update(owner=owner)
    reading = bearer(owner, Scope.READ)
    for address in (
        "/api/v1/board", "/api/v1/entries/", f"/api/v1/entries/{submission.slug}/", "/api/v1/submissions/",
        f"/api/v1/submissions/{submission.run_id}/",
    ):  # fmt: skip
        seen = client.get(address, headers=reading)
        again = client.get(address, headers=reading | {"If-None-Match": seen["ETag"]})
        assert (seen.status_code, again.status_code, again.content) == (200, 304, b"")
    before = client.get("/api/v1/board")["ETag"]
    factory.published(tmp_path, "BT", number=1)
    assert client.get("/api/v1/board", headers={"If-None-Match": before}).status_code == 200


def test_an_entry_in_full_has_the_numbers_of_the_board(client: Client, tmp_path: Path) -> None:
    submission = factory.published(tmp_path)
    document = client.get(f"/api/v1/entries/{submission.slug}/").json()
    (row,) = client.get("/api/v1/board").json()["entries"]
    assert document["numbers"] == row["numbers"]
    assert document["checkpoint_sha256"] == submission.checkpoint_sha256
    assert {stage["stage"] for stage in document["stages"]} >= {"clean", "autoattack"}


def test_authors_of_an_anonymous_entry_are_told_to_nobody(client: Client, tmp_path: Path, owner: User) -> None:
    submission = factory.published(tmp_path)
    fields = {"authors": "A secret", "paper": "https://example.org/secret", "venue": "ICCV", "is_anonymous": True}
    Submission.objects.update(owner=owner, **fields)
    client.force_login(owner)
    document = client.get(f"/api/v1/entries/{submission.slug}/").json()
    assert (document["authors"], document["paper"], document["venue"]) == ("", "", "ICCV")


def test_what_is_not_published_has_no_entry(client: Client, tmp_path: Path) -> None:
    submission = factory.published(tmp_path)
    services.hide(submission)
    assert client.get(f"/api/v1/entries/{submission.slug}/").status_code == 404
    assert client.get("/api/v1/entries/").json() == {"entries": [], "next": None}


def test_a_list_of_submissions_holds_ones_own_alone(client: Client, tmp_path: Path, owner: User) -> None:
    mine = [factory.submit(tmp_path, f"mine {number}", number=number) for number in range(3)]
    Submission.objects.update(owner=owner)
    Submission.objects.filter(pk=mine[1].pk).update(is_private=True, authors="A, B")
    factory.submit(tmp_path, "another's", number=9)
    refused = client.get("/api/v1/submissions/", headers=bearer(owner, Scope.SUBMIT))
    assert refused.status_code == 403
    client.defaults["HTTP_AUTHORIZATION"] = bearer(owner, Scope.READ)["Authorization"]
    found = pages(client, "/api/v1/submissions/", "submissions", limit=2)
    assert [[one["title"] for one in page] for page in found] == [["mine 2", "mine 1"], ["mine 0"]]
    private = found[0][1]
    assert (private["is_private"], private["authors"], private["state"]) == (True, "A, B", "queued")


def test_the_queue_is_the_one_on_the_page(client: Client, tmp_path: Path) -> None:
    factory.submit(tmp_path, "waits", protocol=SMOKE)
    document, twin = (client.get(address).json() for address in ("/api/v1/queue", "/queue.json"))
    for one in (document, twin):
        assert one.pop("oldest_seconds") >= 0
        for run in one["waiting"]:
            run["submitted_at"] = datetime.fromisoformat(run["submitted_at"]).replace(microsecond=0)
    assert document == twin
    assert [run["title"] for run in document["waiting"]] == ["waits"]


@pytest.mark.parametrize("method", ["get", "post", "put", "delete"])
def test_where_there_is_nothing_a_program_is_told_so_in_json(client: Client, method: str) -> None:
    for address in ("/api/v1/nothing", "/api/v1/entries/none/" if method == "get" else "/api/v1/a/b"):
        answer = getattr(client, method)(address)
        assert (answer.status_code, answer.json()) == (
            404,
            {"detail": "there is nothing here, or nothing that is yours to see"},
        )


def test_what_workers_do_is_not_public() -> None:
    words = " ".join(api.get_openapi_schema()["paths"])
    assert not any(word in words for word in ("claim", "heartbeat", "finish", "lease"))
