"""The same message many times, and several workers on one run: one claim wins."""

import pytest

from tests.faults.order import PROTOCOL, assert_all_in_order, end, see_to_the_end
from tests.workers import Evaluation

MESSAGES = 20


@pytest.mark.slow
def test_a_message_sent_many_times_to_two_workers_lets_nothing_be_measured_twice(place: Evaluation):
    run_id = place.create(PROTOCOL)
    with place.worker("one") as one, place.worker("two") as two:
        for _ in range(MESSAGES):
            place.send_message(run_id)
        see_to_the_end(place, run_id)
        place.until(lambda: sum(place.log(name).count("succeeded") for name in ("one", "two")) >= MESSAGES)
        end(one, two)
    shards = place.shards(run_id)
    assert len({shard.worker for shard in shards}) == 2
    assert {shard.attempt for shard in shards} == {1}  # claims are counted
    begun = place.log("one") + place.log("two")
    assert begun.count(f"run {run_id}: attempt ") == len(shards)
    assert_all_in_order(place)
