"""The run store's database goes away and comes back: what was being reported is reported once."""

import time
from contextlib import closing

import psycopg
import pytest

from evaluator.store import ShardState
from evaluator.store.engine import PATIENCE_SECONDS
from tests.faults.order import PROTOCOL, assert_all_in_order, end, see_to_the_end
from tests.servers import Server
from tests.workers import Evaluation

AT_WORK = "SELECT * FROM shards WHERE state = 'running' FOR UPDATE"
REPORTS = "SELECT * FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE shards SET%result%'"


def found(connection: psycopg.Connection, query: str) -> bool:
    """Whether a query, in a transaction that ends where it does not, finds anything."""
    rows = connection.execute(query).fetchall()
    if not rows:
        connection.rollback()
    return bool(rows)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_report_that_the_database_dies_under_is_repeated_and_taken_once(place: Evaluation, database: Server, how):
    run_id = place.create(PROTOCOL)
    url = place.variables["RUN_STORE_URL"]
    away = 0.0
    with place.worker("worker") as worker:
        place.nudge(run_id)
        for aim in (3, 8):
            place.until(lambda: place.done(run_id) >= aim)  # noqa: B023  # called at once
            with closing(psycopg.connect(url)) as blocker, closing(psycopg.connect(url)) as watcher:
                place.until(lambda: found(blocker, AT_WORK))
                place.until(lambda: found(watcher, REPORTS))
                begun = time.monotonic()
                if how == "killed":
                    database.kill()
                else:
                    database.stop()
            database.start()
            away = max(away, time.monotonic() - begun)
        see_to_the_end(place, run_id)
        end(worker)
    if away < PATIENCE_SECONDS:  # it comes back later only where the machine is too busy for anything
        assert {(shard.attempt, shard.failures) for shard in place.shards(run_id)} == {(1, 0)}
    assert {shard.state for shard in place.shards(run_id)} == {ShardState.DONE}
    assert_all_in_order(place)
