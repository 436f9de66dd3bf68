"""SIGTERM in the middle of what takes longest: handed back at once, by all alike."""

from dataclasses import replace

import pytest

from evaluator.broker import WAKE_UPS
from evaluator.metrics import StageName
from evaluator.protocol import AutoAttackSettings, Examples
from evaluator.shipped import SMOKE
from evaluator.store import RunState, ShardState
from tests.faults.conftest import messages
from tests.faults.order import assert_all_in_order, end
from tests.servers import Server
from tests.workers import Evaluation

LONG_CHUNK = replace(
    SMOKE,
    name="long-chunk",
    threat_model=replace(SMOKE.threat_model, epsilon=1e-4),
    autoattack=AutoAttackSettings(chunk_size=500),
    autoattack_examples=Examples(500, 0),
)
"""Whose AutoAttack is one call of a minute or more, for hardly any example can be broken and none is given up."""


@pytest.mark.slow
def test_a_worker_told_to_end_in_a_chunk_of_autoattack_hands_it_back_and_wakes_others(
    place: Evaluation, broker: Server
):
    run_id = place.create(LONG_CHUNK)

    def chunk():
        return next(shard for shard in place.shards(run_id) if shard.stage is StageName.AUTOATTACK)

    with place.worker("worker") as worker:
        place.nudge(run_id)
        place.until(lambda: chunk().state is ShardState.RUNNING)
        end(worker)
    assert (chunk().state, chunk().attempt, chunk().failures) == (ShardState.QUEUED, 1, 0)
    assert "raised unexpected" not in place.log("worker")
    assert messages(broker, "evaluation") >= WAKE_UPS
    assert place.store.run(run_id).state is RunState.RUNNING
    assert not any("failed" in event.text for event in place.store.events(run_id))
    place.store.cancel(run_id)
    assert_all_in_order(place)
