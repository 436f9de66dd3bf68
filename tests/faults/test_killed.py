"""Killed with -9 at any instant: what was reported stays, what was lost is counted and done again to the bit."""

import signal
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from evaluator.metrics import StageName
from evaluator.protocol import Examples
from evaluator.store import ShardState
from tests.faults.order import PROTOCOL, assert_all_in_order, end, reports, see_to_the_end
from tests.workers import Evaluation, Worker, send

VICTIMS: dict[str, Callable[[Worker], bool]] = {
    "the process that measures": lambda worker: send(worker.measuring, signal.SIGKILL),
    "the process that claims": lambda worker: send(worker.claiming, signal.SIGKILL),
    "the process that listens": lambda worker: send(worker.pid, signal.SIGKILL),
    "the whole worker": lambda worker: worker.kill_all() or True,
}


@pytest.mark.slow
def test_a_run_survives_the_kill_of_each_of_its_processes_at_random_instants(place: Evaluation, dice):
    place.variables["LEASE_SECONDS"] = "5"  # how long a shard waits whose worker is dead
    run_id = place.create(PROTOCOL)
    worker = place.start("worker")
    kept, lost = {}, []
    first, *others = VICTIMS
    try:
        for victim in (first, *dice.sample(others, len(others))):
            place.nudge(run_id)
            aim = place.done(run_id) + dice.randint(1, 3)  # so no shard is met twice
            place.until(lambda: place.done(run_id) >= aim)  # noqa: B023  # called at once
            lost.append(sum(shard.failures for shard in place.shards(run_id)))
            time.sleep(dice.random() / 2)
            place.until(lambda: VICTIMS[victim](worker))  # noqa: B023
            kept |= reports(place.shards(run_id))
            if victim in ("the process that listens", "the whole worker"):
                place.until(lambda: place.processes() == [])  # the others end with the one that listens
                worker.wait()
                worker = place.start("worker")
        see_to_the_end(place, run_id)
        end(worker)
    finally:
        worker.kill_all()
    shards = place.shards(run_id)
    assert reports(shards).items() >= kept.items()
    assert lost[:2] == [0, 1]  # who measures always loses one
    lost_in_all = sum(shard.failures for shard in shards)
    assert lost_in_all == sum(shard.attempt - 1 for shard in shards)
    assert 1 < lost_in_all <= len(VICTIMS)  # others lose none where they are killed between two shards
    assert_all_in_order(place)


@pytest.mark.slow
def test_a_shard_whose_process_is_killed_twice_is_measured_in_smaller_batches_to_the_same_numbers(place: Evaluation):
    many = Examples(test=200, train=0)
    attack = replace(PROTOCOL.robust_loss, steps=20)
    protocol = replace(
        PROTOCOL,
        clean_examples=many,
        robust_loss=attack,
        robust_loss_examples=many,
        autoattack_examples=Examples(0, 0),
        flatness_examples=Examples(0, 0),
    )
    run_id = place.create(protocol)

    def twice_killed() -> bool:
        shards = [shard for shard in place.shards(run_id) if shard.stage is StageName.ROBUST_LOSS]
        if any(shard.failures == 2 for shard in shards):
            return True
        if any(shard.state is ShardState.RUNNING and shard.stop - shard.start > 8 for shard in shards):
            send(worker.measuring, signal.SIGKILL)  # what it lost is claimed again first, and so is met again
        return False

    with place.worker("worker") as worker:
        place.nudge(run_id)
        place.until(twice_killed)
        see_to_the_end(place, run_id)
        end(worker)
    (unlucky,) = (shard for shard in place.shards(run_id) if shard.failures == 2)
    assert unlucky.attempt == 3
    assert_all_in_order(place)
