"""The training workers, as real processes on a real broker."""

import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluator.artifacts import Artifacts
from evaluator.broker import TRAINING_QUEUE
from evaluator.shipped import DIGITS_DEMO
from evaluator.store import ShardState, TrainingOrder, TrainingRecord, TrainingStore
from tests.trainers.recipes_for_tests import tiny
from tests.workers import PATIENCE_SECONDS, Place

LONG = tiny("at", epochs="100")
"""Some seconds of training: time to notice it and to kill it."""
SEED = 3


class Training(Place):
    """Where training workers meet."""

    application = "trainers.worker"
    queue = TRAINING_QUEUE

    def __init__(self, folder: Path, queue_url: str) -> None:
        super().__init__(folder, queue_url)
        self.trainings = TrainingStore(self.variables["RUN_STORE_URL"])

    def order(self) -> None:
        order = TrainingOrder(
            digest=LONG.digest,
            seed=SEED,
            name=LONG.name,
            recipe=LONG.model_dump_json(),
            epochs=LONG.epochs,
            snapshot="final",
            title="AT",
            protocol=DIGITS_DEMO,
        )
        self.trainings.queue([order])
        self.nudge()

    def nudge(self) -> None:
        self.python("worker.nudge()")

    def training(self) -> TrainingRecord:
        (one,) = self.trainings.trainings()
        return one

    def undisturbed(self) -> str:
        """Return the SHA-256 of what the command line makes of the same training."""
        folder = self.folder / "undisturbed"
        self.run("-m", "trainers", *shlex.split(LONG.name), f"--seed={SEED}", "--device=cpu", f"--folder={folder}")
        return Artifacts(self.variables["ARTIFACTS_URL"]).put(folder / "final.safetensors")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Training]:
    place = Training(tmp_path, f"sqla+sqlite:///{tmp_path / 'broker.sqlite3'}")
    yield place
    place.trainings.close()
    place.store.close()


def test_a_training_whose_worker_is_killed_is_ended_by_the_next_with_the_weights_of_an_undisturbed_one(place):
    place.variables["LEASE_SECONDS"] = "3"  # how long the dead worker's training waits here
    with place.worker("doomed") as doomed:
        place.order()
        place.until(lambda: place.training().epochs_done > 3)
        child = int(place.training().worker.rpartition(":")[2])
        assert "libtorch" in Path(f"/proc/{child}/maps").read_text()
        assert "libtorch" not in Path(f"/proc/{doomed.pid}/maps").read_text()
        doomed.kill()
        doomed.wait()
    place.until(lambda: place.trainings.expire() == 1)
    kept = place.training()
    assert (kept.state, kept.attempt) == (ShardState.QUEUED, 1)
    assert 3 < kept.epochs_done < LONG.epochs
    with place.worker("survivor"):
        place.nudge()
        place.until(lambda: place.training().state is ShardState.DONE)
        place.until(lambda: place.waiting("site") == 1)
    done = place.training()
    assert (done.attempt, done.epochs_done, done.error) == (2, LONG.epochs, None)
    (folder,) = (place.folder / "training").iterdir()
    assert len((folder / "log.jsonl").read_text().splitlines()) == LONG.epochs
    assert done.final_sha256 == place.undisturbed()
    assert done.best_sha256 == Artifacts(place.variables["ARTIFACTS_URL"]).put(folder / "best.safetensors")


def test_a_worker_told_to_end_hands_its_training_to_the_next_without_a_failure(place):
    with place.worker("old") as old:
        place.order()
        place.until(lambda: place.training().epochs_done > 1)
        old.send_signal(signal.SIGTERM)
        assert old.wait(PATIENCE_SECONDS) == 0
    handed_back = place.training()
    assert (handed_back.state, handed_back.error) == (ShardState.QUEUED, None)
    assert handed_back.epochs_done < LONG.epochs
    with place.worker("new"):
        place.until(lambda: place.training().epochs_done > handed_back.epochs_done)  # nobody nudges again
    assert place.training().attempt == 2
