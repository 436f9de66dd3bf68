"""What is private or withdrawn has no entry, whoever publishes, sweeps or rebuilds; what is shown again is the same."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from evaluator.exceptions import DatasetMissing, InvalidCheckpoint
from evaluator.shipped import SMOKE
from leaderboard import services
from leaderboard.models import Entry, Measurement, State, Submission
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db


def numbers() -> list[tuple]:
    fields = ("entry__submission__slug", "metric", "split", "value", "low", "high", "n")
    return list(Measurement.objects.order_by("metric", "split").values_list(*fields))


def failed(folder: Path, error: Exception, number: int = 0) -> Submission:
    submission = factory.submit(folder, number=number, protocol=SMOKE)
    claim = services.run_store().claim("forger", run_id=submission.run_id)
    assert claim is not None
    services.run_store().fail(claim, error)
    return submission


def test_hiding_takes_the_entry_away_and_publishing_brings_the_same_one_back(tmp_path: Path) -> None:
    submission = factory.published(tmp_path, protocol=SMOKE)
    shown, first = numbers(), submission.published_at
    assert services.hide(submission)
    assert not services.hide(submission)
    assert (submission.state, submission.is_private, numbers()) == (State.MEASURED, True, [])
    assert services.publish_run(submission.run_id) is None
    services.sweep()
    services.rebuild()
    assert not Entry.objects.exists()
    assert services.publish(submission)
    assert not services.publish(submission)
    assert (submission.state, submission.is_private, submission.published_at) == (State.PUBLISHED, False, first)
    assert numbers() == shown


def test_what_is_private_before_it_is_measured_ends_as_measured(tmp_path: Path) -> None:
    submission = factory.submit(tmp_path, protocol=SMOKE)
    services.hide(submission)
    factory.measure(submission)
    services.sweep()
    submission.refresh_from_db()
    assert (submission.state, Entry.objects.count()) == (State.MEASURED, 0)


def test_a_site_that_died_while_it_published_is_helped_by_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission = factory.published(tmp_path, protocol=SMOKE)
    services.hide(submission)
    with monkeypatch.context() as patch:
        patch.setattr(services, "publish_run", lambda run_id: None)
        services.publish(submission)
    services.sweep()
    submission.refresh_from_db()
    assert (submission.state, Entry.objects.count()) == (State.PUBLISHED, 1)


def test_a_withdrawn_submission_is_gone_for_good_and_its_address_says_so(client: Client, tmp_path: Path) -> None:
    submission = factory.published(tmp_path, protocol=SMOKE)
    assert services.withdraw(submission)
    assert not services.withdraw(submission)
    for change in (services.hide, services.publish, services.run_again):
        assert not change(submission)
    services.publish_run(submission.run_id)
    services.sweep()
    services.rebuild()
    submission.refresh_from_db()
    assert (submission.state, Entry.objects.count()) == (State.WITHDRAWN, 0)
    page = client.get(submission.get_absolute_url()).content.decode()
    assert "This submission was withdrawn on" in page


def test_withdrawing_ends_a_run_that_is_being_measured(tmp_path: Path) -> None:
    submission = factory.submit(tmp_path, protocol=SMOKE)
    services.withdraw(submission)
    assert services.run_store().claim("forger") is None
    services.sweep()
    submission.refresh_from_db()
    assert submission.state == State.WITHDRAWN


def test_only_what_was_cancelled_or_failed_without_its_senders_fault_gets_a_new_run(tmp_path: Path) -> None:
    cancelled = factory.submit(tmp_path, number=1, protocol=SMOKE)
    services.cancel(cancelled.run_id)
    for submission, again in (
        (cancelled, True),
        (failed(tmp_path, DatasetMissing("no data"), 2), True),
        (failed(tmp_path, InvalidCheckpoint("not a network"), 3), False),
        (factory.submit(tmp_path, number=4, protocol=SMOKE), False),
        (factory.published(tmp_path, number=5, protocol=SMOKE), False),
    ):
        submission.refresh_from_db()
        before = submission.run_id
        assert services.run_again(submission) == again
        assert (submission.run_id != before) == again
        assert not again or (submission.state, submission.failure) == (State.QUEUED, "")


def test_the_page_of_a_private_entry_exists_for_its_owner_alone(client: Client, tmp_path: Path) -> None:
    submission = factory.published(tmp_path, protocol=SMOKE)
    submission.owner = User.objects.create_user("owner")
    submission.save()
    services.hide(submission)
    assert client.get(submission.get_absolute_url()).status_code == 404
    client.force_login(User.objects.create_user("other"))
    assert client.get(submission.get_absolute_url()).status_code == 404
    client.force_login(submission.owner)
    assert "This submission is measured and private" in client.get(submission.get_absolute_url()).content.decode()
