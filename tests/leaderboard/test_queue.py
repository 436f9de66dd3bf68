"""`manage.py queue` shows how the work stands and does what people decide about it."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command

from evaluator.exceptions import DatasetMissing
from evaluator.shipped import SMOKE
from evaluator.store import Role, RunState, RunStore, WorkerRegister
from leaderboard import services
from leaderboard.models import State
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db


@pytest.fixture
def register() -> Iterator[WorkerRegister]:
    """Return the register, its tables made."""
    yield services.worker_register()
    services.worker_register().close()


@pytest.fixture
def store(register: WorkerRegister) -> RunStore:
    """Return the run store, closed with the test."""
    return services.run_store()


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show tables on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "250")


def created(store: RunStore, start: str = "") -> UUID:
    run_id = UUID(hex=start + uuid4().hex[len(start) :])
    store.create_run(run_id, SMOKE, "ab" * 32)
    return run_id


def test_an_empty_queue_says_so(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("queue")
    said = capsys.readouterr().out
    assert "runs:      none\n" in said
    assert "no worker was seen within a day" in said


def test_the_queue_shows_runs_workers_pauses_and_failures(
    store: RunStore, register: WorkerRegister, wide: None, capsys: pytest.CaptureFixture[str]
) -> None:
    failed, waiting = created(store), created(store)
    claim = store.claim("gpu 3", run_id=failed)
    assert claim is not None
    store.fail(claim, DatasetMissing("the files of [cifar10] are not there"))
    register.announce("gpu 3", Role.EVALUATION, device="NVIDIA H200")
    held = store.claim("gpu 3", run_id=waiting)
    assert held is not None
    register.pause(Role.TRAINING, "the [red]disk[/] is full")
    call_command("queue")
    lines = capsys.readouterr().out.splitlines()
    assert "runs:      1 running, 1 failed; the oldest waits" in lines[0]
    (paused,) = (line for line in lines if "paused" in line)
    assert paused.startswith("training is paused for")
    assert paused.endswith(": the [red]disk[/] is full")
    (worker,) = (line for line in lines if line.startswith("gpu 3"))
    for part in ("evaluation", "busy", "NVIDIA H200", "ago", str(held.spec), str(waiting)):
        assert part in worker
    (failure,) = (line for line in lines if line.startswith(str(failed)))
    for part in ("DatasetMissing", "operator", "the files of [cifar10] are not there"):
        assert part in failure


def test_programs_get_the_same_as_json(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    created(store)
    call_command("queue", "--json")
    document = json.loads(capsys.readouterr().out)
    assert document["runs"] == dict.fromkeys(RunState, 0) | {"queued": 1}
    assert document["oldest_seconds"]["evaluation"] > 0
    assert document.keys() == store.status().__dataclass_fields__.keys()


def test_a_role_is_paused_for_a_reason_and_goes_on(
    store: RunStore, register: WorkerRegister, capsys: pytest.CaptureFixture[str]
) -> None:
    created(store)
    call_command("queue", "--pause", "evaluation", "--reason", " a new driver ")
    assert [(pause.role, pause.reason) for pause in register.pauses()] == [(Role.EVALUATION, "a new driver")]
    assert store.claim("worker") is None
    call_command("queue", "--resume", "evaluation")
    call_command("queue", "--resume", "evaluation")
    assert store.claim("worker") is not None
    assert capsys.readouterr().out.splitlines() == [
        "evaluation is paused; what is held is finished", "evaluation goes on", "evaluation was not paused",
    ]  # fmt: skip


def test_a_worker_is_drained_and_takes_work_again(store: RunStore, register: WorkerRegister) -> None:
    created(store)
    register.announce("gpu 3", Role.EVALUATION)
    call_command("queue", "--drain", "gpu 3")
    assert store.claim("gpu 3") is None
    call_command("queue", "--undrain", "gpu 3")
    assert store.claim("gpu 3") is not None


def test_a_run_is_preferred_and_cancelled_by_the_start_of_its_id(
    store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = created(store, "aaaaaaaaa1"), created(store, "aaaaaaaaa2")
    call_command("queue", "--priority", "AAAAAAAA-A2", "10")
    claim = store.claim("worker")
    assert claim is not None
    assert claim.run_id == second
    call_command("queue", "--cancel", str(second))
    run = store.run(second)
    assert run is not None
    assert run.state is RunState.CANCELLED
    assert capsys.readouterr().out.splitlines() == [
        f"run {second} has priority 10", f"run {second} is cancelled",
    ]  # fmt: skip
    call_command("queue", "--cancel", "aaaa")  # only one of them is left
    run = store.run(first)
    assert run is not None
    assert run.state is RunState.CANCELLED


def test_the_submission_of_a_cancelled_run_is_cancelled_at_once(store: RunStore, tmp_path: Path) -> None:
    submission = factory.submit(tmp_path)
    call_command("queue", "--cancel", submission.run_id.hex[:12])
    submission.refresh_from_db()
    assert submission.state == State.CANCELLED


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--pause", "evaluation"], "--pause needs --reason"),
        (["--pause", "evaluation", "--reason", "  "], "--pause needs --reason"),
        (["--reason", "why not"], "--reason says why something is done: say what too"),
        (["--drain", "gpu 9"], "no worker is called 'gpu 9'; those seen within a day: gpu 3"),
        (["--undrain", "gpu 9"], "no worker is called 'gpu 9'"),
        (["--cancel", "b"], "0 of the 2 runs that wait or run have an id that begins with 'b'; give"),
        (["--cancel", "aaaa"], "2 of the 2 runs that wait or run have an id that begins with 'aaaa': aaaaaaaa-a1"),
        (["--cancel", ""], "2 of the 2 runs"),
        (["--priority", "aaaaaaaaa1", "high"], "a priority is a whole number from -1000 to 1000, got 'high'"),
        (["--priority", "aaaaaaaaa1", "1001"], "a priority is a whole number from -1000 to 1000, got '1001'"),
        (["--pause", "publishing", "--reason", "why not"], "invalid choice: 'publishing'"),
        (["--pause", "evaluation", "--json", "--reason", "why not"], "not allowed with"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence_and_changes_nothing(
    arguments: list[str], sentence: str, store: RunStore, register: WorkerRegister
) -> None:
    created(store, "aaaaaaaaa1")
    created(store, "aaaaaaaaa2")
    register.announce("gpu 3", Role.EVALUATION)
    with pytest.raises(CommandError) as refusal:
        call_command("queue", *arguments)
    assert sentence in str(refusal.value)
    assert register.pauses() == ()
    assert {(run.state, run.priority) for run in store.runs()} == {(RunState.QUEUED, 0)}
    assert not register.workers()[0].draining
