"""From `manage.py train --all` to submissions: queued once, handed in once, also when no message announced it."""

from pathlib import Path

import pytest
from kombu.exceptions import OperationalError

from evaluator.artifacts import Artifacts
from evaluator.environment import read_environment
from evaluator.exceptions import DatasetMissing
from evaluator.shipped import DIGITS_DEMO, DIGITS_LINF
from evaluator.store import ShardState
from leaderboard import dispatch, services
from leaderboard.management.commands.train import Command
from leaderboard.models import State, Submission
from leaderboard.tasks import take_in
from tests.leaderboard import factory
from trainers import worker
from trainers.recipe import Recipe, list_recipes, load_recipe

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def wake_ups(monkeypatch: pytest.MonkeyPatch):
    """Return a list that grows with every wake-up of the training workers; no message leaves the test."""
    sent: list[None] = []
    monkeypatch.setattr(worker, "nudge", lambda: sent.append(None))
    yield sent
    services.training_store().close()


def train(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        Command().run_from_argv(["manage.py", "train", *arguments])
    return ended.value.code


def finish(tmp_path: Path, number: int = 0) -> None:
    """Finish the next training with made checkpoints."""
    store, artifacts = services.training_store(), Artifacts(read_environment().artifacts_url)
    final, best = (artifacts.put(factory.checkpoint(tmp_path, number + one)) for one in (1, 2))
    store.finish(store.claim("forger"), final_sha256=final, best_sha256=best)


def test_a_family_is_queued_once_with_all_its_seeds(wake_ups, capsys, django_capture_on_commit_callbacks):
    recipes = list_recipes("digits")
    trainings = len({recipe.digest for recipe in recipes})
    with django_capture_on_commit_callbacks(execute=True):
        assert train("--family", "digits", "--all", "--seeds", "3") == 0
    said = capsys.readouterr().out
    assert f"queued {3 * trainings} trainings for {3 * len(recipes)} new entries" in said
    assert wake_ups
    queued = services.training_store().trainings()
    assert {one.seed for one in queued} == {0, 1, 2}
    assert len(queued) == 3 * trainings < 3 * len(recipes)
    assert train("--family", "digits", "--all", "--seeds", "3") == 0
    assert "nothing is new" in capsys.readouterr().out
    assert services.training_store().trainings() == queued


def test_the_queued_recipe_is_complete_with_its_changes():
    assert train("digits/awp", "stepper.gamma=0.02", "--seeds", "2", "--seed", "5") == 0
    (first, second) = services.training_store().trainings()
    assert (first.seed, second.seed) == (5, 6)
    claim = services.training_store().claim("worker")
    recipe = Recipe.model_validate_json(claim.recipe)
    assert recipe == load_recipe("digits/awp stepper.gamma=0.02")
    assert recipe.digest == claim.digest == first.digest


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--all", "digits/at"], "--all queues every recipe, but digits/at was named too"),
        (["--all", "--family", "digit"], "did you mean 'digits'?"),
        (["--queue"], "no recipe was named"),
        (["digits/at", "--seeds", "0"], "--seeds counts seeds and is at least 1, got 0"),
        (["digits/at", "--queue", "--seed", "-1"], "a seed is a whole number from 0"),
        (["digits/at", "--queue", "--submit"], "--submit is for trainings here"),
        (["digits/at", "--queue", "--folder", "here"], "--folder is for trainings here"),
        (["digits/at", "--seeds", "2", "--title", "AT"], "--title names one entry, but 2 would be queued"),
        (["digits/at", "--queue", "--title", "A" * 101], "a title needs 1 to 100 printable characters"),
        (["--all", "--protocol", "digits-linf"], "but digits-linf v1 measures on digits"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_cannot_be_queued_is_refused_whole_with_a_sentence(arguments, sentence, wake_ups, capsys):
    assert train(*arguments) == 2
    assert sentence in capsys.readouterr().err
    assert services.training_store().trainings() == ()
    assert wake_ups == []


def test_what_was_trained_is_submitted_once_as_reference_entries_with_their_titles(tmp_path):
    assert train("digits/at", "--queue") == 0
    assert train("digits/at-early-stopped", "--queue", "--protocol", DIGITS_DEMO.name) == 0
    assert train("digits/at", "--queue", "--seed", "1") == 0
    for number in (0, 2):
        finish(tmp_path, number)
        take_in()
    take_in()
    submitted = {one.title: one for one in Submission.objects.all()}
    stopped = load_recipe("digits/at-early-stopped").title
    assert submitted.keys() == {"AT", stopped, "AT (seed 1)"}
    assert all(one.is_reference and one.state == State.QUEUED for one in submitted.values())
    assert submitted["AT"].protocol_name == submitted["AT (seed 1)"].protocol_name == DIGITS_LINF.name
    assert submitted[stopped].protocol_name == DIGITS_DEMO.name
    assert len({one.checkpoint_sha256 for one in submitted.values()}) == 3


def test_the_sweep_takes_in_what_no_message_announced(tmp_path):
    assert train("digits/at", "--queue") == 0
    services.sweep()
    assert not Submission.objects.exists()
    finish(tmp_path)
    services.sweep()
    services.sweep()
    assert Submission.objects.get().title == "AT"


def test_the_sweep_wakes_training_workers_for_what_the_dead_held_and_only_then(
    wake_ups, django_capture_on_commit_callbacks
):
    def swept() -> int:
        del wake_ups[:]
        with django_capture_on_commit_callbacks(execute=True):
            services.sweep()
        return len(wake_ups)

    assert swept() == 0
    assert train("digits/at", "--queue") == 0
    assert swept() == 1
    store = services.training_store()
    held = store.claim("alive")
    assert swept() == 0
    store.release(held)
    store.claim("dead", lease_seconds=-1)
    assert swept() == 1
    assert store.trainings()[0].state is ShardState.QUEUED


def test_one_checkpoint_that_cannot_be_taken_in_does_not_hold_up_the_others(tmp_path, caplog):
    assert train("digits/at", "--queue") == 0
    assert train("digits/awp", "--queue") == 0
    store = services.training_store()
    store.finish(store.claim("forger"), final_sha256="0" * 64, best_sha256=None)
    finish(tmp_path)
    assert services.take_in() == 1
    assert "AT could not be taken in" in caplog.text
    assert Submission.objects.get().title == load_recipe("digits/awp").title


def test_a_broker_that_is_away_does_not_undo_the_queue(monkeypatch, caplog, django_capture_on_commit_callbacks):
    def away() -> None:
        raise OperationalError("refused")

    monkeypatch.setattr(worker, "nudge", away)
    with django_capture_on_commit_callbacks(execute=True):
        assert train("digits/at", "--queue") == 0
        dispatch.train()
    assert len(services.training_store().trainings()) == 1
    assert "the sweep will wake the workers again" in caplog.text


def test_the_table_of_jobs_says_how_far_each_is_and_why_one_failed(capsys):
    assert train("digits/at", "--queue") == 0
    assert train("digits/awp", "--seeds", "2") == 0
    store = services.training_store()
    running = store.claim("gpu 3")
    store.advance(running, 7)
    store.fail(store.claim("gpu 4"), DatasetMissing("digits are not there; put them there"))
    capsys.readouterr()
    assert train("--jobs") == 0
    head, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head == ["recipe", "seed", "state", "epoch", "worker", "why"]
    epochs = load_recipe("digits/at").epochs
    assert rows[0] == ["digits/at", "0", "running", f"7/{epochs}", "gpu", "3"]
    assert rows[1][:4] == ["digits/awp", "0", "failed", f"0/{epochs}"]
    assert " ".join(rows[1][4:]) == "gpu 4 operator: digits are not there; put them there"
    assert rows[2] == ["digits/awp", "1", "queued", f"0/{epochs}", "–"]
