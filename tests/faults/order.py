"""What is measured in these tests, and what must hold after every fault."""

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from uuid import UUID

from evaluator.checkpoints import load_for_measuring, open_checkpoint
from evaluator.evaluation import evaluate
from evaluator.plan import plan
from evaluator.protocol import EvaluationProtocol
from evaluator.results import EvaluationResult, ShardSpec
from evaluator.shipped import SMOKE
from evaluator.store import RunState, ShardState
from evaluator.store.records import ACTIVE
from evaluator.store.rows import ShardRow
from evaluator.store.steps import spec_of
from fixtures.make_tiny import TINY
from tests.workers import PATIENCE_SECONDS, Evaluation, Worker

PROTOCOL = replace(
    SMOKE,
    name="faults",
    flatness=replace(SMOKE.flatness, samples=8, attack=replace(SMOKE.flatness.attack, steps=150)),
)
"""At least 22 shards, most of them of a sixth of a second on an idle core."""


@cache
def undisturbed(protocol: EvaluationProtocol) -> EvaluationResult:
    """Return what a measurement in this process yields, of which nothing can be lost."""
    return evaluate(load_for_measuring(open_checkpoint(TINY)), protocol)


def see_to_the_end(place: Evaluation, *run_ids: UUID) -> None:
    """Sweep and wake, as the site does, until the runs have ended."""

    def ended() -> bool:
        place.store.sweep()
        active = [run_id for run_id in run_ids if place.store.run(run_id).state in ACTIVE]
        if active:
            place.nudge(active[0])
            time.sleep(0.5)
        return not active

    place.until(ended)


def end(*workers: Worker) -> None:
    """Tell workers to end, as a deployment does; they must do so in order."""
    for worker in workers:
        worker.terminate()
    assert [worker.wait(PATIENCE_SECONDS) for worker in workers] == [0] * len(workers)


def assert_all_in_order(place: Evaluation) -> None:
    """Assert what holds once all workers were ended: every run and shard stands somewhere, nothing is left over.

    The folders of killed processes are gone after the next worker, which finds nothing to do.
    """
    place.until(lambda: place.processes() == [])
    assert place.run("-m", "evaluator.worker") == "0 shards measured\n"
    # Celery's processes, killed, leave an empty folder each
    assert [path for path in place.scratch.rglob("*") if not path.name.startswith("pymp-")] == []
    assert list((place.folder / "artifacts").glob(".incoming-*")) == []
    runs = place.store.runs()

    def nothing_running() -> bool:
        place.store.sweep()  # shards of runs that were cancelled keep their leases until these expire
        return not any(shard.state is ShardState.RUNNING for run in runs for shard in place.shards(run.id))

    place.until(nothing_running)
    for run in runs:
        match run.state:
            case RunState.COMPLETE:
                _assert_measured_once(place, run.id, run.protocol)
            case RunState.FAILED:
                assert all((run.error, run.failure, run.fault)), run
            case _:
                assert run.state is RunState.CANCELLED


def _assert_measured_once(place: Evaluation, run_id: UUID, protocol: EvaluationProtocol) -> None:
    shards = place.shards(run_id)
    assert {shard.state for shard in shards} == {ShardState.DONE}
    pieces = [spec_of(shard) for shard in shards]
    assert sum(len(piece) for piece in pieces) == sum(len(whole) for whole in plan(protocol))
    for whole in plan(protocol):
        assert _examples(whole, pieces) == list(range(whole.start, whole.stop)), whole
    result = place.store.result(run_id)
    assert len({(one.metric, one.split) for one in result.measurements}) == len(result.measurements)
    assert result.measurements == undisturbed(protocol).measurements
    assert [event.text for event in place.store.events(run_id)].count("complete") == 1


def _examples(whole: ShardSpec, pieces: Iterable[ShardSpec]) -> list[int]:
    of_it = (piece for piece in pieces if replace(piece, start=whole.start, stop=whole.stop) == whole)
    return sorted(example for piece in of_it for example in range(piece.start, piece.stop))


def reports(shards: Iterable[ShardRow]) -> dict[int, tuple[int, float | None]]:
    """Return, by position, which attempt brought each report there is, and when."""
    return {shard.position: (shard.attempt, shard.finished_at) for shard in shards if shard.state is ShardState.DONE}
