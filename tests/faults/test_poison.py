"""A model whose process dies each time: three attempts, a reason, and the next one's turn."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from evaluator.exceptions import Fault
from evaluator.store import MAX_FAILURES, RunState
from tests.faults.order import PROTOCOL, assert_all_in_order, end
from tests.workers import Evaluation


@pytest.mark.slow
def test_a_model_that_crashes_its_process_each_time_fails_with_the_reason_and_the_queue_moves_on(place: Evaluation):
    poison = place.create(replace(PROTOCOL, name="poison"))
    next_one = place.create(PROTOCOL)
    crashed: set[int] = set()

    def crashed_each_time() -> bool:
        process = worker.measuring
        if place.store.run(poison).state.ended:  # seen after the process: a later one is the next run's
            return True
        if process is not None and process not in crashed and has_torch(process):
            os.kill(process, signal.SIGSEGV)
            crashed.add(process)
        return False

    with place.worker("worker") as worker:
        place.nudge(poison)
        place.until(crashed_each_time)
        place.until_complete(next_one)  # nobody nudges again
        end(worker)
    run = place.store.run(poison)
    assert (run.state, run.failure, run.fault) == (RunState.FAILED, "MeasuringDied", Fault.OURS)
    assert "failed 3 times" in run.error
    assert "SIGSEGV" in run.error
    assert "measuring.py" in run.log  # the stack, whose bottom it is
    assert len(crashed) == MAX_FAILURES
    assert sum("SIGSEGV" in event.text for event in place.store.events(poison)) == MAX_FAILURES + 1
    assert sum(shard.failures for shard in place.shards(poison)) == MAX_FAILURES
    assert_all_in_order(place)


def has_torch(pid: int) -> bool:
    """Whether a process is so far that it can say where it crashed."""
    try:
        return "libtorch" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False
