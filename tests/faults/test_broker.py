"""The broker loses what it holds, or is away: messages are hints, and the sweep finds everything again."""

from dataclasses import replace

import pytest

from tests.faults.conftest import empty, messages
from tests.faults.order import PROTOCOL, assert_all_in_order, end
from tests.faults.site import Site
from tests.servers import Server
from tests.workers import Evaluation


@pytest.mark.slow
def test_wake_ups_that_were_lost_are_sent_again_by_the_sweep(place: Evaluation, broker: Server):
    site = Site(place)
    broker.kill()
    runs = site.submit(PROTOCOL)  # accepted, whether or not anybody can be told
    broker.start()
    runs += site.submit(replace(PROTOCOL, name="emptied"))
    empty(broker)
    runs += site.submit(replace(PROTOCOL, name="killed"))
    broker.kill()
    broker.start()
    assert messages(broker, "evaluation") == 0
    with place.worker("worker") as worker:
        assert [place.done(run_id) for run_id in runs] == [0, 0, 0]
        assert site.sweep() == "3 queued"
        for run_id in runs:
            place.until_complete(run_id)
        place.until(lambda: messages(broker, "site") == len(runs))
        empty(broker)  # nobody tells the site that the runs are complete
        end(worker)
    assert site.sweep() == "3 published"
    assert site.entries() == {run_id: len(place.store.result(run_id).measurements) for run_id in runs}
    assert_all_in_order(place)


@pytest.mark.slow
def test_a_broker_that_goes_away_under_a_worker_stops_no_run_and_can_wake_it_when_it_is_back(
    place: Evaluation, broker: Server
):
    first, second = place.create(PROTOCOL), place.create(replace(PROTOCOL, name="second"))
    with place.worker("worker") as worker:
        place.nudge(first)
        place.until(lambda: place.done(first) > 1)
        broker.kill()
        place.until_complete(first)
        place.until_complete(second)  # it goes on though it could not tell the site of the first
        broker.start()
        third = place.create(replace(PROTOCOL, name="third"))
        place.nudge(third)
        place.until_complete(third)
        end(worker)
    assert_all_in_order(place)
