"""Owners and staff change what was said about a submission; everybody reads it at once, and nobody else can."""

import json
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from evaluator.exceptions import InvalidRequest
from leaderboard import dump, services, tokens
from leaderboard.access import Scope
from leaderboard.editing import FIELDS, edit
from leaderboard.models import StaffAct, Submission
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db

SAID = {
    "title": "Renamed network",
    "authors": "A. Lovelace",
    "paper": "https://example.org/paper",
    "venue": "ICCV 2021",
    "extra_data": "generated images",
}


@pytest.fixture
def owner() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def submission(tmp_path: Path, owner: User) -> Submission:
    submission = factory.published(tmp_path, "As it was", number=1)
    Submission.objects.filter(pk=submission.pk).update(owner=owner)
    submission.refresh_from_db()
    return submission


@pytest.fixture
def staff() -> User:
    user = User.objects.create_user("eve", is_staff=True)
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={})
    return user


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def form_of(submission: Submission) -> str:
    return f"/submissions/{submission.run_id}/edit/"


def patched(user: User, submission: Submission, said: dict[str, Any], scope: Scope = Scope.SUBMIT) -> Any:
    bearer = {"Authorization": f"Bearer {tokens.make(user, 'script', [scope], days=1)}"}
    address = f"/api/v1/submissions/{submission.run_id}/"
    return Client().patch(address, json.dumps(said), content_type="application/json", headers=bearer)


def test_an_edit_is_read_at_once_wherever_the_entry_is_and_its_address_stays(
    submission: Submission, owner: User, tmp_path: Path
) -> None:
    reader, slug, numbers = Client(), submission.slug, Client().get("/board.json").json()["entries"][0]["numbers"]
    assert "As it was" in reader.get("/").content.decode()
    page = signed_in(owner).get(form_of(submission)).content.decode()
    assert 'value="As it was"' in page
    assert "Reason" not in page
    answer = signed_in(owner).post(form_of(submission), SAID, follow=True)
    assert "It is changed everywhere." in answer.content.decode()
    submission.refresh_from_db()
    assert ({name: getattr(submission, name) for name in SAID}, submission.slug) == (SAID, slug)
    for address in (
        "/?columns=authors,robust_error_test", "/board.csv", "/board.json", "/api/v1/board?protocol=digits-demo",
        f"/api/v1/entries/{slug}/", f"/entries/{slug}/", f"/submissions/{submission.run_id}/",
    ):  # fmt: skip
        said = reader.get(address).content.decode()
        for words in ("Renamed network", "A. Lovelace", "https://example.org/paper", "ICCV 2021"):
            assert words in said, (address, words)
    for address in (f"/entries/{slug}/cite.bib", "/feed.atom", f"/compare.json?e={slug}&e={slug}"):
        assert "As it was" not in reader.get(address).content.decode()
    assert "Renamed network" in reader.get(f"/entries/{slug}/cite.bib").content.decode()
    assert reader.get("/board.json").json()["entries"][0]["numbers"] == numbers
    dump.write(tmp_path / "data")
    assert "A. Lovelace" in (tmp_path / "data" / "entries.csv").read_text()
    assert not StaffAct.objects.exists()


def test_authors_are_hidden_and_revealed_by_an_edit(submission: Submission, owner: User) -> None:
    edit(submission, owner, SAID | {"is_anonymous": True})
    addresses = ("/?columns=authors", "/board.csv", "/board.json", f"/entries/{submission.slug}/")
    for address in addresses:
        assert "Lovelace" not in Client().get(address).content.decode()
    assert patched(owner, submission, {"anonymous": False}).json()["is_anonymous"] is False
    for address in addresses:
        assert "Lovelace" in Client().get(address).content.decode()


def test_a_program_changes_what_it_names_and_nothing_else(submission: Submission, owner: User) -> None:
    edit(submission, owner, SAID)
    answer = patched(owner, submission, {"venue": "", "title": "Once more"})
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in SAID} == SAID | {"venue": "", "title": "Once more"}
    assert answer.json()["slug"] == submission.slug
    assert patched(owner, submission, {}).status_code == 200
    assert patched(owner, submission, {"title": "x"}, Scope.READ).status_code == 403


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"title": ""}, "title: This field is required"),
        ({"title": "x" * 101}, "title: Ensure this value has at most 100 characters"),
        ({"paper": "javascript:alert(1)"}, "paper: give a whole address"),
        ({"authors": "a\u202eb"}, "authors: this holds characters that cannot be printed"),
    ],
)
def test_what_the_form_of_a_submission_refuses_an_edit_refuses_too(
    submission: Submission, owner: User, said: dict[str, str], sentence: str
) -> None:
    answer = patched(owner, submission, said)
    assert answer.status_code == 400
    assert sentence in answer.json()["detail"]
    refused = signed_in(owner).post(form_of(submission), SAID | said)
    assert refused.status_code == 400
    assert sentence.partition(": ")[2] in refused.content.decode()
    submission.refresh_from_db()
    assert submission.title == "As it was"


@pytest.mark.parametrize("said", [{"slug": "mine"}, {"extra_data": "none of these"}, {"title": None}, {"owner": 1}])
def test_what_cannot_be_changed_is_refused(submission: Submission, owner: User, said: dict[str, Any]) -> None:
    before = Submission.objects.values().get()
    assert patched(owner, submission, said).status_code == 422
    assert Submission.objects.values().get() == before


def test_staff_says_why_and_the_trail_keeps_it(submission: Submission, staff: User) -> None:
    desk = signed_in(staff)
    assert "Reason" in desk.get(form_of(submission)).content.decode()
    refused = desk.post(form_of(submission), SAID)
    assert refused.status_code == 400
    assert "say why" in refused.content.decode()
    assert patched(staff, submission, {"title": "x"}).status_code == 400
    assert not StaffAct.objects.exists()
    desk.post(form_of(submission), SAID | {"reason": "the authors wrote to us"})
    act = StaffAct.objects.get()
    assert (act.actor, act.what, act.submission, act.reason) == ("eve", "edit", submission, "the authors wrote to us")
    assert act.subject == "As it was under digits-demo v1: title, authors, paper, venue, extra_data"
    desk.post(form_of(submission), SAID | {"reason": "once more"})
    assert StaffAct.objects.count() == 1, "nothing was changed"


def test_nobody_else_edits(submission: Submission) -> None:
    other = User.objects.create_user("mallory")
    before = Submission.objects.values().get()
    assert signed_in(other).get(form_of(submission)).status_code == 404
    assert signed_in(other).post(form_of(submission), SAID).status_code == 404
    assert patched(other, submission, SAID).status_code == 404
    assert Client().post(form_of(submission), SAID).status_code == 302
    with pytest.raises(InvalidRequest, match="no reason was given"):
        edit(submission, other, SAID)
    assert Submission.objects.values().get() == before
    assert "edit/" not in signed_in(other).get(f"/submissions/{submission.run_id}/").content.decode()


def test_what_was_withdrawn_stays_as_it_is(submission: Submission, owner: User) -> None:
    services.withdraw(submission)
    before = Submission.objects.values().get()
    assert "stays as it is" in signed_in(owner).get(form_of(submission), follow=True).content.decode()
    assert "stays as it is" in signed_in(owner).post(form_of(submission), SAID, follow=True).content.decode()
    answer = patched(owner, submission, SAID)
    assert answer.status_code == 400
    assert "was withdrawn" in answer.json()["detail"]
    assert Submission.objects.values().get() == before
    assert "edit/" not in signed_in(owner).get(f"/submissions/{submission.run_id}/").content.decode()


def test_a_command_changes_what_it_names_and_the_trail_keeps_it(submission: Submission, capsys) -> None:
    call_command("edit", submission.slug, "--title", "By hand", "--anonymous", "--reason", "asked by mail")
    assert capsys.readouterr().out == "changed: title, is_anonymous\n"
    submission.refresh_from_db()
    assert (submission.title, submission.is_anonymous) == ("By hand", True)
    act = StaffAct.objects.get()
    assert (act.actor, act.what, act.reason) == ("command line", "edit", "asked by mail")
    for arguments, sentence in ((["none"], "no submission is called 'none'"), ([submission.slug, "--title="], "title")):
        with pytest.raises(CommandError, match=sentence):
            call_command("edit", *arguments)


def test_what_can_be_changed_is_what_was_asked(submission: Submission) -> None:
    assert set(FIELDS) == {*SAID, "is_anonymous"}
    assert submission.title == "As it was"
