"""From a checkpoint file to published numbers, through both stores."""

import os
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from kombu.exceptions import OperationalError

from evaluator import worker
from evaluator.artifacts import Artifacts
from evaluator.environment import read_environment
from evaluator.exceptions import (
    ArtifactsUnavailable,
    DatasetMissing,
    Fault,
    InvalidCheckpoint,
    InvalidRequest,
    LostLease,
)
from evaluator.shipped import CIFAR10_LINF, DIGITS_LINF, SMOKE
from evaluator.store import RunState
from leaderboard import services
from leaderboard.models import Entry, Measurement, ReportedResult, State, Submission
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db

Commit = Callable[..., object]


def published_values() -> list[tuple]:
    entries = Entry.objects.order_by("run_id").values_list(
        "run_id", "submission__slug", "submission__published_at", "robust_on_test", "stages", "versions", "seconds"
    )
    numbers = Measurement.objects.order_by("entry__run_id", "metric", "split")
    return [*entries, *numbers.values_list("entry__run_id", "metric", "split", "value", "low", "high", "n")]


def test_a_submission_is_queued_and_the_workers_are_nudged_once_it_is_committed(
    tmp_path: Path, nudges: list[UUID], django_capture_on_commit_callbacks: Commit
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        submission = factory.submit(tmp_path)
        assert nudges == []
    assert nudges == [submission.run_id]
    assert submission.state == State.QUEUED
    run = services.run_store().run(submission.run_id)
    assert run is not None
    assert (run.protocol_digest, run.checkpoint_sha256) == (submission.protocol_digest, submission.checkpoint_sha256)


def test_the_same_file_under_the_same_protocol_is_one_submission(tmp_path: Path) -> None:
    first = factory.submit(tmp_path, "AT")
    assert factory.submit(tmp_path, "another title") == first
    assert factory.submit(tmp_path, "AT", protocol=DIGITS_LINF) != first
    assert factory.submit(tmp_path, "AT", number=1) != first
    assert Submission.objects.count() == 3
    assert len(services.run_store().runs()) == 3


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"not a checkpoint", "no weights"), (b"PK\x03\x04 a zip", "begins as a zip and does not end as one")],
)
def test_nothing_is_stored_of_a_refused_file(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "refused.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidCheckpoint, match=sentence):
        services.submit(path, title="AT", protocol=SMOKE)
    assert not Submission.objects.exists()
    assert services.run_store().runs() == ()
    assert not Path(read_environment().artifacts_url).exists()


@pytest.mark.parametrize("title", ["", "   ", "a" * 101, "two\nlines"])
def test_a_title_has_one_to_a_hundred_printable_characters(tmp_path: Path, title: str) -> None:
    with pytest.raises(InvalidRequest, match="a title needs 1 to 100 printable characters"):
        factory.submit(tmp_path, title)


def test_a_checkpoint_for_another_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="made for digits, but cifar10-linf v1 measures on cifar10"):
        factory.submit(tmp_path, protocol=CIFAR10_LINF)


@pytest.mark.parametrize(("error", "again"), [(DatasetMissing("absent"), True), (InvalidRequest("bad"), False)])
def test_a_failure_that_was_not_the_senders_is_run_again_when_the_file_comes_again(
    tmp_path: Path, error: Exception, again: bool
) -> None:
    first = factory.submit(tmp_path)
    claim = services.run_store().claim("worker", run_id=first.run_id)
    assert claim is not None
    services.run_store().fail(claim, error)
    services.sweep()
    second = factory.submit(tmp_path)
    assert (second.pk, second.slug) == (first.pk, first.slug)
    assert (second.run_id != first.run_id) == again
    assert second.state == (State.QUEUED if again else State.FAILED)
    assert second.failure == ("" if again else "bad")


def test_a_cancelled_submission_blames_nobody_and_is_run_again_when_the_file_comes_again(tmp_path: Path) -> None:
    first = factory.submit(tmp_path)
    claim = services.run_store().claim("worker", run_id=first.run_id)
    assert claim is not None
    assert services.cancel(first.run_id)
    assert not services.cancel(first.run_id)
    first.refresh_from_db()
    assert (first.state, first.fault) == (State.CANCELLED, "")
    with pytest.raises(LostLease):
        services.run_store().heartbeat(claim)
    second = factory.submit(tmp_path)
    assert (second.pk, second.state, second.failure) == (first.pk, State.QUEUED, "")
    assert second.run_id != first.run_id
    services.sweep()
    second.refresh_from_db()
    assert second.state == State.QUEUED


def test_a_run_that_nobody_submitted_can_be_cancelled_and_a_published_one_cannot(tmp_path: Path) -> None:
    run_id = uuid4()
    services.run_store().create_run(run_id, SMOKE, "ab" * 32)
    assert services.cancel(run_id)
    submission = factory.published(tmp_path)
    assert not services.cancel(submission.run_id)
    submission.refresh_from_db()
    assert submission.state == State.PUBLISHED
    assert not services.cancel(uuid4())


def test_publishing_twice_makes_one_entry_with_each_number_once(tmp_path: Path) -> None:
    submission = factory.published(tmp_path)
    before = published_values()
    assert services.publish_run(submission.run_id) == submission.entry
    assert published_values() == before
    assert submission.state == State.PUBLISHED
    result = services.run_store().result(submission.run_id)
    assert result is not None
    assert Measurement.objects.count() == len(result.measurements)


def test_an_entry_remembers_which_test_examples_stayed_robust(tmp_path: Path) -> None:
    entry = factory.published(tmp_path).entry
    error = entry.measurements.get(metric="robust_error", split="test")
    assert len(entry.robust_on_test) == error.n
    assert entry.robust_on_test.count("0") / error.n == pytest.approx(error.value)


def test_unfinished_runs_and_runs_nobody_submitted_are_not_published(tmp_path: Path) -> None:
    assert services.publish_run(factory.submit(tmp_path).run_id) is None
    assert services.publish_run(uuid4()) is None
    assert not Entry.objects.exists()


def test_a_rebuild_makes_the_same_entries_again_even_after_damage(tmp_path: Path) -> None:
    for number in range(3):
        factory.published(tmp_path, f"entry {number}", number=number)
    before = published_values()
    Measurement.objects.filter(metric="flatness").update(value=0)
    Entry.objects.first().delete()
    call_command("publish", rebuild=True)
    assert published_values() == before


def test_a_rebuild_without_the_results_changes_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory.published(tmp_path)
    before = published_values()
    monkeypatch.setenv("RUN_STORE_URL", f"sqlite:///{tmp_path / 'another.sqlite3'}")
    with pytest.raises(CommandError, match="lacks the results of 1 of 1 published runs"):
        call_command("publish", rebuild=True)
    assert published_values() == before


def test_the_sweep_publishes_mirrors_and_nudges(
    tmp_path: Path, nudges: list[UUID], django_capture_on_commit_callbacks: Commit
) -> None:
    complete, failed, cancelled, running, _ = (factory.submit(tmp_path, number=number) for number in range(5))
    store = services.run_store()
    factory.measure(complete)
    claim = store.claim("forger", run_id=failed.run_id)
    assert claim is not None
    store.fail(claim, DatasetMissing("the data is not there"))
    store.cancel(cancelled.run_id)
    store.claim("forger", run_id=running.run_id)
    with django_capture_on_commit_callbacks(execute=True):
        counts = services.sweep()
    assert counts == {State.PUBLISHED: 1, State.FAILED: 1, State.CANCELLED: 1, State.RUNNING: 1, State.QUEUED: 1}
    assert nudges == [running.run_id]
    failed.refresh_from_db()
    assert (failed.failure, failed.fault) == ("the data is not there", Fault.OPERATOR)
    services.sweep()
    assert Entry.objects.count() == 1


def test_the_sweep_queues_a_submission_whose_run_was_never_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(services, "enqueue", lambda submission: None)  # the process dies here
        submission = factory.submit(tmp_path)
    assert services.run_store().run(submission.run_id) is None
    services.sweep()
    run = services.run_store().run(submission.run_id)
    assert run is not None
    assert run.state is RunState.QUEUED


def test_the_sweep_removes_what_was_left_half_stored_a_day_ago_and_does_without_artifacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    left, growing = folder / ".incoming-left", folder / ".incoming-growing"
    for path in (left, growing):
        path.touch()
    os.utime(left, (0, 0))
    services.sweep()
    assert list(folder.iterdir()) == [growing]

    def away(_: Artifacts) -> int:
        raise ArtifactsUnavailable("the artifacts are away; try again")

    monkeypatch.setattr(Artifacts, "sweep", away)
    assert services.sweep() == {}


def test_one_submission_in_trouble_does_not_stop_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poison, good = (factory.submit(tmp_path, number=number) for number in range(2))
    for submission in (poison, good):
        factory.measure(submission)
    publish = services.publish_run

    def publish_or_break(run_id: UUID) -> Entry | None:
        if run_id == poison.run_id:
            raise ValueError("broken")
        return publish(run_id)

    monkeypatch.setattr(services, "publish_run", publish_or_break)
    assert services.sweep() == {State.QUEUED: 1, State.PUBLISHED: 1}
    assert poison.slug in caplog.text


def test_a_broker_that_does_not_answer_loses_no_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Commit
) -> None:
    def refuse(run_id: UUID) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(worker, "nudge", refuse)
    with django_capture_on_commit_callbacks(execute=True):
        submission = factory.submit(tmp_path)
    assert submission.state == State.QUEUED


def test_what_others_report_is_imported_once_and_apart_from_the_entries() -> None:
    call_command("import_reference")
    call_command("import_reference")
    assert ReportedResult.objects.count() == 19 + 135
    baseline = ReportedResult.objects.get(method="AT (baseline)")
    assert baseline.values["robust_error_test"] == pytest.approx(0.628)
    assert not Entry.objects.exists()
