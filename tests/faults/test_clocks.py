"""Workers whose clocks are an hour off: leases are counted by the database's clock alone."""

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.faults.order import PROTOCOL, assert_all_in_order, end, see_to_the_end
from tests.workers import Evaluation

SHIFTED = """
import time

def shifted(honest, shift):
    return lambda: honest() + shift

time.time, time.time_ns = shifted(time.time, {seconds}), shifted(time.time_ns, {seconds} * 10**9)
"""


def with_clock(folder: Path, shift: timedelta) -> str:
    """Return a folder that, on Python's path, shifts the clock of each process from its start."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SHIFTED.format(seconds=int(shift.total_seconds())))
    return str(folder)


def clock_of(log: str) -> datetime:
    """Return the latest time that a worker wrote."""
    return datetime.fromisoformat(re.findall(r"^\[?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),", log, re.MULTILINE)[-1])


@pytest.mark.slow
def test_workers_an_hour_ahead_and_behind_neither_lose_nor_steal_a_lease(place: Evaluation):
    run_id, hour = place.create(PROTOCOL), timedelta(hours=1)
    ahead, behind = with_clock(place.folder / "ahead", hour), with_clock(place.folder / "behind", -hour)
    with (
        place.worker("early", PYTHONPATH=ahead) as early,
        place.worker("late", PYTHONPATH=behind) as late,
        place.worker("right") as right,
    ):
        for _ in range(3):
            place.send_message(run_id)
        see_to_the_end(place, run_id)
        assert clock_of(place.log("early")) - clock_of(place.log("late")) > hour
        end(early, late, right)
    shards = place.shards(run_id)
    assert {(shard.attempt, shard.failures) for shard in shards} == {(1, 0)}
    assert len({shard.worker for shard in shards}) > 1
    run = place.store.run(run_id)
    assert run.created_at <= run.started_at <= run.finished_at < run.created_at + hour
    assert_all_in_order(place)
