"""The run store's disk is full: a sentence, nothing half written, and a retry once there is room."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluator.store import ShardState
from tests.faults.order import PROTOCOL, assert_all_in_order, end, reports, see_to_the_end
from tests.servers import Server
from tests.workers import Evaluation


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tests", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount).returncode != 0:
        pytest.skip("nobody here may mount a small disk: nothing says what becomes of a report on a full one")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Write into a file until nothing more fits, and return it."""
    file = disk / "filler"
    with file.open("wb", buffering=0) as filler:
        for size in (1 << 20, 1 << 10, 1):
            try:
                while True:
                    filler.write(bytes(size))
            except OSError:
                continue
    return file


@pytest.mark.slow
def test_a_report_on_a_full_disk_is_refused_whole_and_taken_once_there_is_room(
    tmp_path: Path, small_disk: Path, broker: Server
):
    place = Evaluation(tmp_path, broker.url, f"sqlite:///{small_disk / 'runs.sqlite3'}")
    place.variables["LEASE_SECONDS"] = "5"
    run_id = place.create(PROTOCOL)
    with place.worker("worker") as worker:
        place.nudge(run_id)
        place.until(lambda: place.done(run_id) > 1)
        filler = fill(small_disk)
        place.until(lambda: "StoreUnavailable" in place.log("worker"))
        assert "(database or disk is full)" in place.log("worker")
        kept = reports(place.shards(run_id))
        assert kept
        with place.store.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        for shard in place.shards(run_id):
            assert (shard.state is ShardState.DONE) == (shard.seconds is not None) == (shard.finished_at is not None)
        filler.unlink()
        see_to_the_end(place, run_id)
        end(worker)
    assert reports(place.shards(run_id)).items() >= kept.items()
    assert_all_in_order(place)
    place.close()
