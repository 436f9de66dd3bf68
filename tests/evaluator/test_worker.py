"""The Celery application, as real processes on a real broker."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from evaluator.broker import WAKE_UPS
from evaluator.checkpoints import load_for_measuring, open_checkpoint
from evaluator.evaluation import evaluate
from evaluator.shipped import SMOKE
from evaluator.store import RunState
from fixtures.make_tiny import TINY
from tests import servers
from tests.workers import PATIENCE_SECONDS, ROOT, Evaluation

SHORT = SMOKE.limited(4)
LONG = replace(
    SMOKE,
    name="long",
    flatness=replace(SMOKE.flatness, samples=50, attack=replace(SMOKE.flatness.attack, steps=20)),
)
"""Some 100 shards that keep one worker busy for many seconds: time for another to join, and to die."""


class Announced(Evaluation):
    """Where measuring workers meet, and who has work for them is a process as the site is one."""

    def nudge(self, run_id: UUID) -> None:
        self.python(f"worker.nudge(UUID('{run_id}'))")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Announced]:
    place = Announced(tmp_path, f"sqla+sqlite:///{tmp_path / 'broker.sqlite3'}")
    yield place
    place.close()


@pytest.mark.parametrize("broker", ["sqlite", "redis"])
def test_a_nudged_run_is_measured_and_announced_to_the_site_by_a_worker_that_never_loads_torch(tmp_path, broker):
    with servers.redis() if broker == "redis" else nullcontext(f"sqla+sqlite:///{tmp_path / 'broker'}") as url:
        place = Announced(tmp_path, url)
        run_id = place.create(SHORT)
        with place.worker("one") as worker:
            place.nudge(run_id)
            place.until_complete(run_id)
            (child,) = {int(stage.workers[0].rpartition(":")[2]) for stage in place.store.progress(run_id)}
            for process in (child, worker.pid):
                assert "libtorch" not in Path(f"/proc/{process}/maps").read_text()
            place.until(lambda: place.waiting("site") == 1)
            worker.terminate()
            assert worker.wait(PATIENCE_SECONDS) == 0
        place.close()


def test_any_number_of_nudges_leaves_few_wake_ups_and_delivered_ones_are_gone(place):
    for _ in range(2):
        place.nudge(uuid4())
    assert place.waiting("evaluation") == WAKE_UPS
    with place.worker("one"):
        place.until(lambda: place.log("one").count("succeeded") == WAKE_UPS)
    rows = (
        "from sqlite3 import connect; print(connect('{}').execute('SELECT COUNT(*) FROM kombu_message').fetchone()[0])"
    )
    assert int(place.python(rows.format(place.folder / "broker.sqlite3"))) == 0


def test_processes_that_open_an_embedded_broker_at_once_make_its_tables_once(place):
    code = f"from uuid import UUID; from evaluator import worker; worker.nudge(UUID('{uuid4()}'))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ | place.variables) for _ in range(3)
    ]
    assert [process.wait(PATIENCE_SECONDS) for process in processes] == [0, 0, 0]


def test_a_broker_that_is_away_is_an_operational_error_not_a_hang(tmp_path):
    place = Announced(tmp_path, "redis://127.0.0.1:1/0")
    code = "exec('try:\\n worker.nudge(UUID(int=0))\\nexcept OperationalError:\\n print(1)')"
    assert place.python(f"from kombu.exceptions import OperationalError; {code}") == "1\n"
    place.close()


def test_two_workers_share_a_run_and_one_killed_in_the_middle_changes_no_number(place):
    place.variables["LEASE_SECONDS"] = "3"  # how long the dead worker's shard waits here
    with place.worker("doomed") as doomed, place.worker("survivor"):
        place.nudge(uuid4())  # a false alarm, so that both have their torch when it counts
        place.until(lambda: all("succeeded" in place.log(name) for name in ("doomed", "survivor")))
        run_id = place.create(LONG)
        place.nudge(run_id)
        place.until(lambda: len({w for stage in place.store.progress(run_id) for w in stage.workers}) == 2)
        place.until(lambda: place.done(run_id) > 20)
        doomed.kill()
        doomed.wait()
        kept = place.done(run_id)
        assert kept < sum(stage.shards for stage in place.store.progress(run_id))

        def swept() -> bool:
            place.store.sweep()
            return place.store.run(run_id).state.ended

        place.nudge(run_id)
        place.until(swept)
    assert place.store.run(run_id).state is RunState.COMPLETE
    stages = place.store.progress(run_id)
    assert sum(stage.shards_done for stage in stages) == sum(stage.shards for stage in stages)
    expected = evaluate(load_for_measuring(open_checkpoint(TINY)), LONG)
    assert place.store.result(run_id).measurements == expected.measurements


def test_a_worker_told_to_end_hands_its_work_to_the_next_without_a_failure(place):
    run_id = place.create(LONG)
    with place.worker("old") as old:
        place.nudge(run_id)
        place.until(lambda: place.done(run_id) > 3)
        old.send_signal(signal.SIGTERM)
        assert old.wait(PATIENCE_SECONDS) == 0
    assert place.store.run(run_id).state is RunState.RUNNING
    assert sum(stage.shards_running for stage in place.store.progress(run_id)) == 0
    with place.worker("new"):
        place.until_complete(run_id)  # nobody nudges again
    assert not any("failed" in event.text for event in place.store.events(run_id))
