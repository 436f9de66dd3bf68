"""The record of trainings, on SQLite and PostgreSQL alike."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from evaluator.exceptions import DatasetMissing, Fault, FolderBusy, InvalidRequest, LostLease
from evaluator.shipped import DIGITS_DEMO, DIGITS_LINF
from evaluator.store import MAX_FAILURES, HandIn, Queued, RunStore, ShardState, TrainingOrder, TrainingStore

AT = TrainingOrder(
    digest="a" * 64,
    seed=2**32 - 1,
    name="digits/at",
    recipe='{"name": "digits/at"}',
    epochs=120,
    snapshot="final",
    title="AT",
    protocol=DIGITS_LINF,
)
STOPPED = replace(AT, name="digits/at-early-stopped", snapshot="best", title="AT, early stopped")
AWP = replace(AT, digest="b" * 64, name="digits/awp", title="AWP")
FINAL, BEST = "1" * 64, "2" * 64
STATE, LATER = "3" * 64, "4" * 64


@pytest.fixture
def store(url: str, store: RunStore) -> Iterator[TrainingStore]:
    trainings = TrainingStore(url)
    yield trainings
    trainings.close()


def record(store):
    (training,) = store.trainings()
    return training


def test_what_is_queued_twice_is_queued_once(store):
    assert store.queue([AT, AWP]) == Queued(trainings=2, hand_ins=2)
    assert store.queue([AT, AWP]) == Queued(trainings=0, hand_ins=0)
    assert [training.name for training in store.trainings()] == ["digits/at", "digits/awp"]


def test_recipes_of_one_training_and_several_protocols_share_it_and_seeds_do_not(store):
    orders = [AT, STOPPED, replace(AT, protocol=DIGITS_DEMO), replace(AT, seed=0)]
    assert store.queue(orders) == Queued(trainings=2, hand_ins=4)


def test_processes_that_queue_the_same_at_once_queue_it_once(store):
    with ThreadPoolExecutor(4) as pool:
        queued = list(pool.map(lambda _: store.queue([AT, AWP]), range(8)))
    assert (sum(one.trainings for one in queued), sum(one.hand_ins for one in queued)) == (2, 2)


def test_threads_that_claim_at_once_never_get_the_same_training(store):
    store.queue([replace(AT, seed=seed) for seed in range(12)])
    barrier = threading.Barrier(4)

    def claim_all(worker: int) -> list[int]:
        barrier.wait()
        seeds = []
        while (claim := store.claim(f"worker {worker}")) is not None:
            seeds.append(claim.seed)
        return seeds

    with ThreadPoolExecutor(4) as pool:
        assert sorted(seed for found in pool.map(claim_all, range(4)) for seed in found) == list(range(12))


def test_a_claim_holds_the_recipe_as_it_was_queued_and_the_oldest_is_first(store):
    store.queue([AT])
    store.queue([AWP])
    claim = store.claim("gpu 3")
    assert (claim.digest, claim.seed, claim.recipe, claim.attempt) == (AT.digest, AT.seed, AT.recipe, 1)
    assert store.claim("gpu 4").digest == AWP.digest
    assert store.claim("gpu 5") is None


def test_a_training_that_is_done_yields_each_of_its_hand_ins_also_those_that_were_asked_for_later(store):
    store.queue([AT])
    store.finish(store.claim("worker"), final_sha256=FINAL, best_sha256=BEST)
    training = record(store)
    assert (training.state, training.epochs_done, training.error) == (ShardState.DONE, 120, None)
    assert store.queue([AT, STOPPED]) == Queued(trainings=0, hand_ins=1)
    assert store.hand_ins() == (HandIn(FINAL, "AT", DIGITS_LINF), HandIn(BEST, STOPPED.title, DIGITS_LINF))
    assert store.claim("worker") is None


def test_without_a_monitors_choice_the_best_snapshot_is_the_last(store):
    store.queue([STOPPED])
    assert store.hand_ins() == ()
    store.finish(store.claim("worker"), final_sha256=FINAL, best_sha256=None)
    assert [one.checkpoint_sha256 for one in store.hand_ins()] == [FINAL]


def test_a_silent_worker_loses_its_training_and_every_late_report_is_refused(store):
    store.queue([AT])
    dead = store.claim("dead", lease_seconds=-1)
    alive = store.claim("alive")
    assert alive.attempt == dead.attempt + 1
    for refused in (
        store.heartbeat,
        store.release,
        lambda claim: store.advance(claim, 1),
        lambda claim: store.keep(claim, 1, STATE),
        lambda claim: store.fail(claim, RuntimeError()),
        lambda claim: store.finish(claim, final_sha256=FINAL, best_sha256=None),
    ):
        with pytest.raises(LostLease, match="refused"):
            refused(dead)
    assert (record(store).state, record(store).worker) == (ShardState.RUNNING, "alive")
    store.finish(alive, final_sha256=FINAL, best_sha256=None)
    with pytest.raises(LostLease):
        store.heartbeat(alive)


@pytest.mark.parametrize("keep", [TrainingStore.heartbeat, lambda store, claim: store.advance(claim, 1)])
def test_a_heartbeat_and_an_epoch_keep_the_training(store, keep):
    store.queue([AT])
    keep(store, replace(store.claim("worker", lease_seconds=-1), lease_seconds=60))
    assert store.expire() == 0
    assert store.claim("another") is None


def test_three_attempts_that_come_no_further_end_a_training_and_others_go_on(store):
    store.queue([AT])
    store.queue([AWP])
    for attempt in range(1, MAX_FAILURES + 1):
        claim = store.claim("dying", lease_seconds=-1)
        assert (claim.digest, claim.attempt) == (AT.digest, attempt)
    assert store.claim("alive").digest == AWP.digest
    failed, _ = store.trainings()
    assert (failed.state, failed.fault) == (ShardState.FAILED, Fault.OURS)
    assert "fell silent" in failed.error


def test_attempts_that_come_further_than_ever_may_die_as_often_as_they_like(store):
    store.queue([AT])
    for epoch in range(1, 3 * MAX_FAILURES):
        claim = store.claim("worker")
        store.advance(claim, epoch)
        store.fail(claim, RuntimeError("the power failed"))
    assert (record(store).state, record(store).epochs_done) == (ShardState.QUEUED, epoch)
    for _ in range(MAX_FAILURES - 1):  # not further: an epoch that was done before
        claim = store.claim("worker")
        store.advance(claim, 1)
        store.fail(claim, RuntimeError("the power failed"))
    assert (record(store).state, record(store).epochs_done) == (ShardState.FAILED, epoch)


def test_what_is_handed_back_counts_no_failure(store):
    store.queue([AT])
    for _ in range(MAX_FAILURES + 1):
        store.release(store.claim("worker"))
    assert (record(store).state, record(store).error) == (ShardState.QUEUED, None)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (InvalidRequest("the loss is nan; a smaller rate may help"), Fault.SUBMITTER),
        (DatasetMissing("cifar10 is not in the data folder; put it there"), Fault.OPERATOR),
    ],
)
def test_what_no_retry_can_help_ends_a_training_until_it_is_queued_again(store, error, fault):
    store.queue([AT])
    store.fail(store.claim("worker"), error)
    assert (record(store).state, record(store).fault, record(store).error) == (ShardState.FAILED, fault, str(error))
    assert store.claim("worker") is None
    assert store.queue([AT]) == Queued(trainings=1, hand_ins=0)
    assert (record(store).state, record(store).fault, record(store).error) == (ShardState.QUEUED, None, None)
    assert store.claim("worker").attempt == 2


def test_a_busy_folder_is_tried_again(store):
    store.queue([AT])
    store.fail(store.claim("worker"), FolderBusy("another process trains there; wait"))
    assert record(store).state is ShardState.QUEUED


def test_expiry_without_a_claim_queues_again_what_the_dead_held(store):
    store.queue([AT])
    store.claim("dead", lease_seconds=-1)
    assert store.expire() == 1
    assert store.expire() == 0
    assert record(store).state is ShardState.QUEUED
    assert "dead fell silent" in record(store).error


def test_the_next_claim_says_where_the_last_state_lies_and_whoever_replaces_it_hears_of_the_one_before(store):
    store.queue([AT])
    first = store.claim("host A", lease_seconds=-1)
    assert (first.saved_epoch, first.saved_sha256) == (None, None)
    assert store.keep(first, 10, STATE) is None
    second = store.claim("host B")
    assert (second.saved_epoch, second.saved_sha256) == (10, STATE)
    assert store.keep(second, 20, LATER) == STATE
    assert (record(store).saved_epoch, record(store).saved_sha256) == (20, LATER)
    with pytest.raises(LostLease):
        store.keep(first, 30, STATE)
    store.finish(second, final_sha256=FINAL, best_sha256=None)
    assert (record(store).saved_epoch, record(store).saved_sha256) == (None, None)


@pytest.mark.parametrize("running", [False, True])
def test_a_cancelled_training_ends_and_goes_on_where_it_was_once_it_is_queued_again(store, running):
    store.queue([AT])
    claim = store.claim("worker")
    store.advance(claim, 10)
    store.keep(claim, 10, STATE)
    if not running:
        store.release(claim)
    assert store.cancel(AT.digest, AT.seed)
    assert (record(store).state, record(store).fault) == (ShardState.FAILED, Fault.OPERATOR)
    assert "cancelled" in record(store).error
    for refused in (store.heartbeat, store.release, lambda claim: store.advance(claim, 11)):
        with pytest.raises(LostLease):
            refused(claim)
    assert store.claim("worker") is None
    assert not store.cancel(AT.digest, AT.seed)
    assert store.queue([AT]) == Queued(trainings=1, hand_ins=0)
    assert store.claim("worker").saved_sha256 == STATE


def test_what_is_done_or_unknown_is_not_cancelled(store):
    assert not store.cancel(AT.digest, AT.seed)
    store.queue([AT, replace(AT, seed=0)])
    assert store.cancel(AT.digest, AT.seed)
    store.finish(store.claim("worker"), final_sha256=FINAL, best_sha256=None)
    assert not store.cancel(AT.digest, 0)
    assert {one.seed: one.state for one in store.trainings()} == {AT.seed: ShardState.FAILED, 0: ShardState.DONE}
