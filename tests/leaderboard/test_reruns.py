"""A new version of a protocol: old entries stay, the same files are measured under it once, in any number of calls."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from evaluator.shipped import PROTOCOLS, SMOKE
from leaderboard import quotas, reruns, services
from leaderboard.models import Entry, StaffAct, State, Submission
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db

SECOND = replace(SMOKE, version=2, seed=7)


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Submission]:
    """Publish three entries and hide one; then the protocol gets a second version."""
    found = [factory.published(tmp_path, f"Entry {number}", number=number, protocol=SMOKE) for number in range(4)]
    services.hide(found.pop())
    found[0].owner = User.objects.create_user("owner")
    found[0].authors, found[0].idempotency_key = "A. Lovelace", "once"
    found[0].save()
    monkeypatch.setitem(PROTOCOLS, "smoke", (SMOKE, SECOND))
    return found


def fresh() -> list[Submission]:
    return list(Submission.objects.filter(protocol_digest=SECOND.digest).order_by("pk"))


def test_nothing_is_outdated_while_there_is_one_version(tmp_path: Path) -> None:
    factory.published(tmp_path, protocol=SMOKE)
    assert reruns.waiting() == {}


def test_every_published_entry_is_queued_once_at_low_priority_and_keeps_its_old_one(entries: list[Submission]) -> None:
    assert reruns.waiting() == {"smoke": 3}
    call_command("rerun", "smoke", "--reason", " a better seed ")
    call_command("rerun", "smoke")
    assert [one.title for one in fresh()] == ["Entry 0", "Entry 1", "Entry 2"]
    for old, new in zip(entries, fresh(), strict=True):
        for name in ("checkpoint_sha256", "title", "owner", "manifest", "stored_numbers", "authors", "size_bytes"):
            assert getattr(new, name) == getattr(old, name)
        assert (new.state, new.idempotency_key, new.published_at) == (State.QUEUED, "", None)
        run = services.run_store().run(new.run_id)
        assert run is not None
        assert (run.priority, run.protocol, run.owner) == (reruns.PRIORITY, SECOND, str(old.owner_id or ""))
        old.refresh_from_db()
        assert (old.state, old.protocol_version) == (State.PUBLISHED, 1)
    assert set(StaffAct.objects.values_list("what", "reason", "actor")) == {("rerun", "a better seed", "command line")}
    assert set(StaffAct.objects.values_list("submission", flat=True)) == {one.pk for one in fresh()}
    factory.measure(fresh()[0])
    services.sweep()
    assert Entry.objects.filter(submission__title="Entry 0").count() == 2


def test_what_staff_has_rerun_does_not_use_up_its_owner_s_quota(entries: list[Submission], settings: Any) -> None:
    settings.QUOTA_PENDING, settings.QUOTA_DAILY = 1, 2
    call_command("rerun", "smoke")
    assert {one.owner for one in fresh()} == {entries[0].owner, None}
    quotas.check(entries[0].owner, 0)


def test_a_dry_run_says_what_it_would_do_and_does_nothing(
    entries: list[Submission], capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("rerun", "smoke", "--dry-run")
    said = capsys.readouterr().out.splitlines()
    assert said == ["v1  Entry 0", "v1  Entry 1", "v1  Entry 2", "3 would be queued under smoke v2"]
    assert fresh() == []


def test_whoever_was_interrupted_goes_on(entries: list[Submission], monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue, left = services.enqueue, [1]

    def dying(submission: Submission, *, priority: int = 0) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        enqueue(submission, priority=priority)

    with monkeypatch.context() as patch:
        patch.setattr(services, "enqueue", dying)
        with pytest.raises(KeyboardInterrupt):
            call_command("rerun", "smoke")
    assert len(fresh()) == 2
    services.sweep()
    call_command("rerun", "smoke")
    assert [(one.title, one.state) for one in fresh()] == [(f"Entry {number}", State.QUEUED) for number in range(3)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["none"], "no protocol is called 'none'"), (["smoke", "--from-version", "9"], "has no version 9")],
)
def test_what_there_is_not_is_refused_in_a_sentence(
    entries: list[Submission], arguments: list[str], sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command("rerun", *arguments)


def test_staff_does_the_same_by_a_page_so_many_at_a_time(
    client: Client, entries: list[Submission], monkeypatch: pytest.MonkeyPatch
) -> None:
    staff = User.objects.create_user("staff", is_staff=True)
    Authenticator.objects.create(user=staff, type=Authenticator.Type.TOTP, data={})
    client.force_login(staff)
    monkeypatch.setattr(reruns, "AT_ONCE", 2)
    assert "3 published entries stand under older versions" in client.get("/moderation/").content.decode()
    address = "/moderation/rerun/smoke/"
    assert "say why" in client.post(address, follow=True).content.decode()
    assert fresh() == []
    for total in (2, 3, 3):
        client.post(address, {"reason": "a better seed"})
        assert len(fresh()) == total
    assert "Every published entry stands under the newest" in client.get("/moderation/").content.decode()
    assert client.post("/moderation/rerun/none/", {"reason": "a better seed"}).status_code == 404
    assert set(StaffAct.objects.values_list("actor", flat=True)) == {"staff"}
