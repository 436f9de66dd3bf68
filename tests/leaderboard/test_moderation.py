"""What staff decides: with a reason, in the trail, in one transaction; and what readers object to and see."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import IntegrityError, InternalError, transaction
from django.test import Client

from evaluator.exceptions import DatasetMissing, InvalidRequest
from evaluator.shipped import DIGITS_DEMO, SMOKE
from evaluator.store import Role
from evaluator.trust.findings import Verdict
from leaderboard import objections, services, throttling, trail
from leaderboard.actions import ACTIONS, perform
from leaderboard.models import Entry, Objection, StaffAct, State, Submission
from tests.leaderboard import crowd, factory

pytestmark = pytest.mark.django_db

TEXT = "The test images are among those it was trained on."
ANSWER = "Its loss on test is as far from that on train as elsewhere."


@pytest.fixture
def staff() -> User:
    user = User.objects.create_user("staff", is_staff=True)
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={})
    return user


@pytest.fixture
def desk(client: Client, staff: User) -> Client:
    client.force_login(staff)
    return client


@pytest.fixture
def reader() -> User:
    return User.objects.create_user("reader")


@pytest.fixture
def entry(tmp_path: Path) -> Submission:
    submission = factory.published(tmp_path, protocol=SMOKE)
    submission.owner = User.objects.create_user("owner")
    submission.save()
    return submission


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def rows() -> list[tuple[str, str, str]]:
    return list(StaffAct.objects.order_by("pk").values_list("actor", "what", "reason"))


def act(client: Client, submission: Submission, name: str, **data: str) -> str:
    path = f"/submissions/{submission.run_id}/{name}"
    return client.post(path, data, follow=True).content.decode()


def test_whatever_staff_does_stands_in_the_trail_with_its_reason(
    desk: Client, entry: Submission, django_capture_on_commit_callbacks: Any
) -> None:
    path = ["suspend", "restore", "hide", "publish", "keep", "measure-again", "cancel", "run-again", "withdraw"]
    runs = []
    for name in path:
        runs.append(entry.run_id)
        assert ACTIONS[name].done in act(desk, entry, name, reason=f" why {name} "), name
        entry.refresh_from_db()
    assert rows() == [("staff", name, f"why {name}") for name in path]
    assert list(StaffAct.objects.order_by("pk").values_list("run_id", flat=True)) == runs
    assert len(set(runs)) == 3
    for reason in ("why suspend", "why withdraw"):
        assert reason in desk.get(f"/submissions/{entry.run_id}/").content.decode()


@pytest.mark.parametrize("data", [{}, {"reason": " "}])
def test_staff_does_nothing_without_a_reason(desk: Client, entry: Submission, data: dict[str, str]) -> None:
    assert "Nothing was changed: no reason was given" in act(desk, entry, "suspend", **data)
    entry.refresh_from_db()
    assert (entry.state, rows()) == (State.PUBLISHED, [])


def test_what_is_not_done_leaves_no_trace(
    desk: Client, staff: User, entry: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "does not stand as it did" in act(desk, entry, "restore", reason="why")
    monkeypatch.setattr(services, "publish_run", lambda run_id: 1 / 0)
    services.suspend(entry, "why")
    with pytest.raises(ZeroDivisionError):
        perform("restore", entry, staff, "why")
    assert rows() == []
    entry.refresh_from_db()
    assert entry.state == State.SUSPENDED


def test_what_owners_do_with_their_own_needs_no_reason_and_is_not_in_the_trail(entry: Submission) -> None:
    owner = signed_in(entry.owner)
    act(owner, entry, "hide")
    entry.refresh_from_db()
    assert (entry.is_private, rows()) == (True, [])
    shown = owner.get(f"/submissions/{entry.run_id}/").content.decode()
    assert 'name="reason"' not in shown
    assert "What staff did" not in shown


def test_an_owner_can_neither_suspend_nor_restore_nor_publish_what_staff_suspended(
    desk: Client, entry: Submission
) -> None:
    owner = signed_in(entry.owner)
    assert "does not stand as it did" in act(owner, entry, "suspend")
    act(desk, entry, "suspend", reason="the weights are somebody else’s")
    for name in ("restore", "hide", "publish", "measure-again"):
        act(owner, entry, name)
        services.publish_run(entry.run_id)
        services.sweep()
        services.rebuild()
        entry.refresh_from_db()
        assert (entry.state, Entry.objects.count()) == (State.SUSPENDED, 0)
    page = Client().get(entry.get_absolute_url()).content.decode()
    assert "Staff suspended this entry on" in page
    assert "the weights are somebody else’s" in page


def test_the_trail_cannot_be_changed(staff: User) -> None:
    trail.record(staff, "pause", "why", subject="evaluation")
    with pytest.raises((IntegrityError, InternalError), match="never changed"), transaction.atomic():
        StaffAct.objects.update(reason="another")
    staff.delete()
    assert rows() == [("staff", "pause", "why")]


def test_the_command_line_is_in_the_trail_and_what_it_asks_in_vain_is_not(entry: Submission, tmp_path: Path) -> None:
    waiting = factory.submit(tmp_path, number=2, protocol=SMOKE)
    services.worker_register().announce("gpu 3", Role.EVALUATION)
    call_command("queue", "--pause", "evaluation", "--reason", "a new driver")
    call_command("queue", "--drain", "gpu 3", "--reason", "its memory")
    call_command("queue", "--resume", "training")
    call_command("queue", "--priority", str(waiting.run_id), "7")
    call_command("queue", "--cancel", waiting.run_id.hex[:8], "--reason", "sent by mistake")
    services.worker_register().close()
    assert rows() == [
        (trail.COMMAND_LINE, what, why)
        for what, why in (
            ("pause", "a new driver"), ("drain", "its memory"), ("priority", ""), ("cancel", "sent by mistake")
        )
    ]  # fmt: skip
    assert list(trail.acts(words="mistake").values_list("submission", flat=True)) == [waiting.pk]


def test_the_trail_is_narrowed_and_paged_and_says_the_same_as_json(desk: Client, staff: User) -> None:
    for number in range(60):
        trail.record(staff if number % 2 else None, "pause", f"reason {number}", subject="evaluation")
    trail.record(staff, "drain", "its <memory>", subject="worker gpu 3")
    shown = desk.get("/moderation/trail/").content.decode()
    assert "its &lt;memory&gt;" in shown
    assert "Page 1 of 2, 61 in all" in shown
    assert "reason 3<" not in shown
    assert "reason 3<" in desk.get("/moderation/trail/?page=2").content.decode()
    for query, total in (("actor=staff", 31), ("what=drain", 1), ("words=gpu+memory", 1), ("words=reason+17", 1)):
        document = desk.get(f"/moderation/trail.json?{query}").json()
        assert document["total"] == total
        assert f"{total} in all" in desk.get(f"/moderation/trail/?{query}").content.decode()
    assert "Nothing of the kind" in desk.get("/moderation/trail/?words=none").content.decode()


def test_staff_alone_reads_on_a_submission_s_page_what_staff_did(desk: Client, entry: Submission) -> None:
    act(desk, entry, "keep", reason="looked at the probes")
    address = f"/submissions/{entry.run_id}/"
    assert "looked at the probes" in desk.get(address).content.decode()
    for client in (Client(), signed_in(entry.owner)):
        assert "looked at the probes" not in client.get(address).content.decode()


def flag(submission: Submission, verdict: Verdict, sentence: str) -> None:
    finding = {"check": "rescaling", "seen": 2.0, "threshold": 1.0, "verdict": verdict, "sentence": sentence}
    Entry.objects.filter(submission=submission).update(findings=[finding])
    submission.save()


def test_what_is_flagged_failed_or_suspended_waits_until_somebody_decides(
    desk: Client, entry: Submission, tmp_path: Path
) -> None:
    assert desk.get("/moderation/").content.decode().count("<p>None.</p>") == 3
    flag(entry, Verdict.FAIL, "the gradients say nothing")
    failed = factory.submit(tmp_path, "Failed", number=2, protocol=SMOKE)
    claim = services.run_store().claim("forger", run_id=failed.run_id)
    assert claim is not None
    services.run_store().fail(claim, DatasetMissing("the images are missing"))
    services.sweep()
    shown = desk.get("/moderation/").content.decode()
    assert "the gradients say nothing" in shown
    assert "the images are missing" in shown
    answer = desk.post(
        f"/submissions/{failed.run_id}/keep", {"reason": "it is withdrawn soon", "moderation": ""}, follow=True
    )
    assert answer.redirect_chain == [("/moderation/", 302)]
    act(desk, entry, "suspend", reason="see the findings")
    shown = desk.get("/moderation/").content.decode()
    assert "the images are missing" not in shown
    assert "the gradients say nothing" not in shown
    assert "see the findings" in shown


def test_what_is_left_as_it_is_waits_again_when_it_has_another_run(desk: Client, entry: Submission) -> None:
    flag(entry, Verdict.WARN, "a warning")
    act(desk, entry, "keep", reason="honest")
    assert "a warning" not in desk.get("/moderation/").content.decode()
    act(desk, entry, "measure-again", reason="a new driver")
    entry.refresh_from_db()
    factory.measure(entry)
    services.sweep()
    flag(entry, Verdict.WARN, "a warning")
    assert "a warning" in desk.get("/moderation/").content.decode()


def test_the_desk_takes_as_many_queries_for_many_as_for_few(
    desk: Client, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    crowd.publish(120, DIGITS_DEMO)
    Entry.objects.update(findings=[{"verdict": "warn", "sentence": "a warning"}])
    desk.get("/moderation/")  # reads the rows of the board
    with django_assert_max_num_queries(16):
        shown = desk.get("/moderation/").content.decode()
    assert "These are the first 20 of 120" in shown


def test_a_reader_objects_once_at_a_time_and_staff_answers_in_public(
    desk: Client, entry: Submission, reader: User
) -> None:
    page, address = entry.get_absolute_url(), f"{entry.get_absolute_url()}object/"
    client, nobody = signed_in(reader), Client()
    assert address in nobody.get(page).content.decode()
    assert "/account/login/" in nobody.post(address, {"text": TEXT})["Location"]
    assert client.post(address, {"text": TEXT})["Location"] == page
    again = client.post(address, {"text": TEXT})
    assert (again.status_code, Objection.objects.count()) == (400, 1)
    assert "has no answer yet" in again.content.decode()
    assert TEXT in client.get(page).content.decode()
    assert TEXT not in nobody.get(page).content.decode()
    shown = desk.get("/moderation/").content.decode()
    assert TEXT in shown
    assert "reader" in shown
    found = Objection.objects.get()
    desk.post(f"/moderation/objections/{found.pk}/", {"answer": "reject", "text": ANSWER})
    for text in (TEXT, ANSWER, "rejected"):
        assert text in nobody.get(page).content.decode()
    (public,) = nobody.get(f"{page}objections.json").json()["objections"]
    assert (public["verdict"], public["text"], public["answer"]) == ("rejected", TEXT, ANSWER)
    for address_of in (page, f"{page}objections.json"):
        assert "reader" not in nobody.get(address_of).content.decode().replace("readers", "")
    assert rows() == [("staff", "objection rejected", ANSWER)]
    assert client.post(address, {"text": TEXT})["Location"] == page


@pytest.mark.parametrize(
    ("how", "verdict", "state", "acts"),
    [
        ("suspend", "accepted", State.SUSPENDED, ["objection accepted", "suspend"]),
        ("measure-again", "accepted", State.QUEUED, ["objection accepted", "measure-again"]),
        ("dismiss", "dismissed", State.PUBLISHED, ["objection dismissed"]),
    ],
)
def test_an_answer_does_what_it_says(
    staff: User, entry: Submission, reader: User, how: str, verdict: str, state: State, acts: list[str]
) -> None:
    objection = objections.object_to(entry, reader, TEXT)
    assert objections.answer(objection, staff, how, ANSWER)
    assert not objections.answer(objection, staff, "reject", ANSWER)
    objection.refresh_from_db()
    entry.refresh_from_db()
    assert (objection.verdict, entry.state) == (verdict, state)
    assert [what for _, what, _ in rows()] == acts
    assert (TEXT in Client().get(entry.get_absolute_url()).content.decode()) == (verdict == "accepted")


def test_nobody_answers_objections_to_their_own_entry(staff: User, entry: Submission, reader: User) -> None:
    entry.owner = staff
    entry.save()
    objection = objections.object_to(entry, reader, TEXT)
    with pytest.raises(InvalidRequest, match="somebody else of the staff"):
        objections.answer(objection, staff, "reject", ANSWER)
    objection.refresh_from_db()
    assert objection.verdict == "open"


def test_only_what_is_published_is_objected_to_and_in_words(entry: Submission, reader: User) -> None:
    client, address = signed_in(reader), f"{entry.get_absolute_url()}object/"
    for text in ("", "too short", "x" * 2001, "with a \0 inside of it all"):
        refused = client.post(address, {"text": text})
        assert refused.status_code == 400
        assert "a text has 20 to 2000 characters" in refused.content.decode()
    services.suspend(entry, "why")
    assert client.get(address).status_code == 404
    with pytest.raises(InvalidRequest, match="AT is suspended; one objects to what is published"):
        objections.object_to(entry, reader, TEXT)


def test_who_objects_too_often_waits(entry: Submission, reader: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(throttling.RATES, "object", throttling.Rate(1, 86_400))
    client, address = signed_in(reader), f"{entry.get_absolute_url()}object/"
    assert client.post(address, {"text": "too short"}).status_code == 400
    assert client.post(address, {"text": TEXT}).status_code == 429
    assert not Objection.objects.exists()
