"""The work loop of training workers, in this process, on a real store."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from evaluator.artifacts import Artifacts
from evaluator.checkpoint_file import open_checkpoint
from evaluator.exceptions import Fault
from evaluator.shipped import DIGITS_DEMO
from evaluator.store import RunStore, ShardState, TrainingOrder, TrainingRecord, TrainingStore
from tests.trainers.recipes_for_tests import tiny
from trainers.folder import Files, training_folder
from trainers.recipe import Recipe
from trainers.work import work

AT, STOPPED = tiny("at"), tiny("at-early-stopped")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TrainingStore]:
    url = f"sqlite:///{tmp_path / 'runs.sqlite3'}"
    runs, store = RunStore(url), TrainingStore(url)
    runs.create_tables()
    yield store
    store.close()
    runs.close()


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(str(tmp_path / "artifacts"))


def order(recipe: Recipe, seed: int = 0) -> TrainingOrder:
    return TrainingOrder(
        recipe.digest, seed, recipe.name, recipe.model_dump_json(), recipe.epochs, recipe.checkpoint, recipe.title,
        DIGITS_DEMO,
    )  # fmt: skip  # an order on two lines


def only(store: TrainingStore) -> TrainingRecord:
    (training,) = store.trainings()
    return training


def test_what_waits_is_trained_and_put_away_and_one_training_serves_its_siblings(store, artifacts, tmp_path):
    store.queue([order(AT), order(STOPPED), order(AT, seed=1)])
    told = []
    done = work(
        store, artifacts, worker="w", folder=tmp_path / "t", device="cpu", on_done=lambda: told.append(store.hand_ins())
    )
    assert done == 2
    assert [len(hand_ins) for hand_ins in told] == [2, 3]
    assert {one.state for one in store.trainings()} == {ShardState.DONE}
    best = next(one for one in store.hand_ins() if one.title == STOPPED.title)
    manifest = open_checkpoint(artifacts.fetch(best.checkpoint_sha256, tmp_path)).manifest
    assert (manifest.notes["seed"], manifest.notes["recipe_digest"]) == ("0", STOPPED.digest)
    folder = training_folder(tmp_path / "t", AT, 0)
    assert best.checkpoint_sha256 == artifacts.put(Files(folder).best)


def test_a_worker_told_to_stop_hands_the_training_back_after_the_epoch_which_is_saved(store, artifacts, tmp_path):
    store.queue([order(AT)])
    folder = tmp_path / "t"
    assert (
        work(store, artifacts, worker="stopped", folder=folder, device="cpu", stop=lambda: only(store).epochs_done == 1)
        == 0
    )
    assert (only(store).state, only(store).epochs_done, only(store).error) == (ShardState.QUEUED, 1, None)
    log = Files(training_folder(folder, AT, 0)).log
    first = log.read_text()
    assert work(store, artifacts, worker="next", folder=folder, device="cpu") == 1
    assert log.read_text().startswith(first)  # with its seconds: the epoch was not done again


def test_a_training_that_diverges_fails_at_once_with_its_sentence(store, artifacts, tmp_path):
    store.queue([order(tiny("clean", optimizer__learning_rate="1e30"))])
    assert work(store, artifacts, worker="w", folder=tmp_path / "t", device="cpu") == 0
    failed = only(store)
    assert (failed.state, failed.fault, failed.attempt) == (ShardState.FAILED, Fault.SUBMITTER, 1)
    assert "a smaller optimizer.learning_rate may help" in failed.error


def test_a_folder_where_another_process_still_trains_is_left_alone_and_nobody_has_failed(store, artifacts, tmp_path):
    store.queue([order(AT)])
    folder = tmp_path / "t"
    with Files(training_folder(folder, AT, 0)).locked():
        assert work(store, artifacts, worker="w", folder=folder, device="cpu") == 0
    assert (only(store).state, only(store).error, only(store).attempt) == (ShardState.QUEUED, None, 1)
    assert work(store, artifacts, worker="w", folder=folder, device="cpu") == 1


def test_a_worker_that_lost_its_lease_ends_after_the_epoch_and_reports_nothing(store, artifacts, tmp_path):
    store.queue([order(AT)])

    def usurp() -> bool:
        if only(store).epochs_done == 1:
            with store.engine.begin() as connection:
                connection.execute(text("UPDATE trainings SET lease_expires = 0"))
            assert store.claim("usurper") is not None
        return False

    assert work(store, artifacts, worker="w", folder=tmp_path / "t", device="cpu", stop=usurp) == 0
    lost = only(store)
    assert (lost.state, lost.worker, lost.epochs_done) == (ShardState.RUNNING, "usurper", 1)
