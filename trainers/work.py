"""The work loop of training workers: claim a training, go on where it was, on whichever host, put its networks away."""

import logging
from collections.abc import Callable
from pathlib import Path

from evaluator.artifacts import Artifacts
from evaluator.attempts import HandBack, attempt
from evaluator.devices import find_device
from evaluator.exceptions import ArtifactsUnavailable, FolderBusy
from evaluator.store import TrainingClaim, TrainingStore
from trainers.folder import Files, training_folder
from trainers.loop import EpochRecord, TrainedVariant, train
from trainers.recipe import Recipe
from trainers.travelling import Traveller

log = logging.getLogger(__name__)


def work(
    store: TrainingStore,
    artifacts: Artifacts,
    *,
    worker: str,
    folder: Path,
    device: str = "auto",
    data_dir: Path | None = None,
    lease_seconds: float = 60.0,
    stop: Callable[[], bool] = lambda: False,
    on_done: Callable[[], None] = lambda: None,
) -> int:
    """Train what waits, each in a folder below `folder`, and return how many trainings were finished.

    Every epoch is saved and told to the store, and now and then the state goes to the artifacts, from where a worker
    on another host goes on. The loop ends when nothing waits, when an attempt came to nothing (the next wake-up is
    soon enough to try again), or when `stop` says so at the end of an epoch, which sends the state and hands the
    training back. `on_done` is called after each training.

    Raises:
        InvalidSetting: there is no such device here.
        StoreUnavailable: the store stayed away; the training goes on when somebody claims it again.
    """
    place = str(find_device(device))
    done = 0
    while not stop():
        claim = store.claim(worker, lease_seconds=lease_seconds)
        if claim is None or _attempt(store, artifacts, claim, folder, place, data_dir, stop) is None:
            break
        done += 1
        on_done()
    return done


def _attempt(
    store: TrainingStore,
    artifacts: Artifacts,
    claim: TrainingClaim,
    folder: Path,
    device: str,
    data_dir: Path | None,
    stop: Callable[[], bool],
) -> TrainedVariant | None:
    """Train and report; None when the training was handed back, lost or failed, which the store then knows."""
    with attempt(store, claim, stop) as tick:  # whatever ends it early is recorded there, and None is returned
        recipe = Recipe.model_validate_json(claim.recipe)
        own = training_folder(folder, recipe, claim.seed)
        log.info("attempt %d of %s, seed %d, in %s", claim.attempt, recipe.name, claim.seed, own)

        traveller = Traveller(store, artifacts, claim, Files(own))

        def progress(record: EpochRecord) -> None:
            store.advance(claim, record.epoch)
            if record.epoch == record.epochs:
                return  # what is done is better finished than handed back
            try:
                tick()
            except HandBack:
                traveller.send(record.epoch)
                raise
            traveller.send_when_due(record.epoch)

        try:
            traveller.arrive()
            variant = train(
                recipe, seed=claim.seed, folder=own, device=device, data_dir=data_dir, progress=progress, save_every=1
            )
            best_sha256 = None if variant.best is None else artifacts.put(variant.best)
            store.finish(claim, final_sha256=artifacts.put(variant.final), best_sha256=best_sha256)
        except (FolderBusy, ArtifactsUnavailable) as later:
            # Who lost this claim before us has not noticed yet, or the artifacts are away: nothing of it is lost.
            log.warning("%s", later)
            raise HandBack from later
        traveller.end()
        return variant
