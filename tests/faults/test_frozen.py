"""Workers that stop in the middle of something and go on long after everybody has given them up."""

import os
import signal
import subprocess
import sys
import time

import pytest

from evaluator.store import ShardState
from tests.faults.order import PROTOCOL, assert_all_in_order, end, reports, see_to_the_end
from tests.workers import ROOT, Evaluation, send

REFUSAL = "no longer holds"
CELERY_SECONDS = 4
"""How long Celery waits for a process of its pool unless told otherwise."""


@pytest.mark.slow
def test_a_worker_that_wakes_up_after_its_lease_is_refused_and_works_on(place: Evaluation):
    place.variables["LEASE_SECONDS"] = "5"
    run_id, later = place.create(PROTOCOL), None

    def at_work() -> bool:
        """Freeze the sleeper; it must hold a shard then, or it wakes up again."""
        os.kill(sleeper.claiming, signal.SIGSTOP)
        held = [s for s in place.shards(run_id) if s.state is ShardState.RUNNING and holds(s.worker, sleeper.claiming)]
        if not held:
            os.kill(sleeper.claiming, signal.SIGCONT)
        return bool(held)

    with place.worker("sleeper") as sleeper:
        place.nudge(run_id)
        place.until(lambda: place.done(run_id) > 2)
        place.until(at_work)
        with place.worker("other") as other:
            see_to_the_end(place, run_id)
            before = reports(place.shards(run_id))
            assert REFUSAL not in place.log("sleeper")
            os.kill(sleeper.claiming, signal.SIGCONT)
            place.until(lambda: REFUSAL in place.log("sleeper"))
            end(other)
        assert reports(place.shards(run_id)) == before
        assert sum(shard.failures for shard in place.shards(run_id)) >= 1
        later = place.create(PROTOCOL)
        see_to_the_end(place, later)
        end(sleeper)
    assert_all_in_order(place)


def holds(worker: str | None, pid: int | None) -> bool:
    return worker is not None and worker.endswith(f":{pid}")


@pytest.mark.slow
def test_a_process_that_freezes_in_a_transaction_keeps_nobody_from_its_shards_for_ever(place: Evaluation):
    run_id = place.create(PROTOCOL)
    code = (
        "import os, signal\n"
        "from sqlalchemy import text\n"
        "from evaluator.store import RunStore\n"
        "store = RunStore(os.environ['RUN_STORE_URL'])\n"
        "with store.engine.begin() as connection:\n"
        "    connection.execute(text('SELECT * FROM shards FOR UPDATE'))\n"
        "    os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    frozen = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ | place.variables)
    try:
        os.waitid(os.P_PID, frozen.pid, os.WSTOPPED)
        assert place.store.claim("another") is None
        place.until(lambda: place.store.claim("another") is not None)
    finally:
        frozen.kill()
        frozen.wait()
    place.store.cancel(run_id)


@pytest.mark.slow
def test_a_process_of_the_pool_that_takes_long_to_start_is_waited_for(place: Evaluation):
    run_id = place.create(PROTOCOL)
    with place.worker("slow") as worker:
        place.until(lambda: worker.claiming is not None)
        first = worker.claiming
        send(first, signal.SIGKILL)
        place.until(lambda: worker.claiming not in (None, first))
        starting = worker.claiming
        send(starting, signal.SIGSTOP)
        assert f"child process {starting} calling" not in place.log("slow")  # it is not up
        time.sleep(CELERY_SECONDS + 1)
        send(starting, signal.SIGCONT)
        place.nudge(run_id)
        place.until_complete(run_id)
        assert worker.claiming == starting
        end(worker)
