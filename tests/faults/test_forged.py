"""Reports that are not true: each is refused with a sentence, and the run is as it was."""

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from evaluator.exceptions import LostLease
from evaluator.protocol import AutoAttackSettings, Examples
from evaluator.store import ShardState
from tests.evaluator.reports import report
from tests.faults.order import PROTOCOL, assert_all_in_order, end
from tests.workers import ROOT, Evaluation

LIES = {
    "clean": "values={**result.values, 'loss': [float('nan')] * len(spec)}",
    "autoattack": "values={'broken_by': ['robust'] * len(spec)}",
    "robust_loss": "spec=replace(spec, start=spec.start + 1, stop=spec.stop + 1)",
    "flatness": "spec=replace(spec, weight_sample=spec.weight_sample + 1)",
}
"""What a measuring process says in its first report of each stage."""

LIAR = """
import sys

if "evaluator.measuring" in sys.orig_argv:
    sys.path.insert(0, {root!r})
    from dataclasses import replace
    from pathlib import Path
    from evaluator import stages

    honest = stages.measure

    def measure(model, dataset, protocol, spec, **options):
        result = honest(model, dataset, protocol, spec, **options)
        told = Path({told!r}) / spec.stage
        if told.exists():
            return result
        told.touch()
        return {{{lies}}}[spec.stage]()

    stages.measure = measure
"""


def with_liar(folder: Path) -> str:
    """Return a folder that, on Python's path, makes measuring processes lie once in each stage."""
    told = folder / "told"
    told.mkdir(parents=True)
    lies = ", ".join(f"{stage!r}: lambda: replace(result, {lie})" for stage, lie in LIES.items())
    (folder / "sitecustomize.py").write_text(LIAR.format(root=str(ROOT), told=str(told), lies=lies))
    return str(folder)


@pytest.mark.slow
def test_a_measuring_process_that_lies_is_refused_and_what_it_said_is_measured_again(place: Evaluation):
    few = Examples(test=24, train=0)
    protocol = replace(PROTOCOL, autoattack=AutoAttackSettings(chunk_size=24), autoattack_examples=few)
    run_id = place.create(protocol)
    liar = with_liar(place.folder / "liar")
    with place.worker("worker", PYTHONPATH=liar, SANDBOX="off") as worker:  # it notes which lies it has told
        place.nudge(run_id)
        place.until_complete(run_id)
        end(worker)
    assert {path.name for path in (place.folder / "liar" / "told").iterdir()} == set(LIES)
    shards = place.shards(run_id)
    assert sum(shard.failures for shard in shards) == sum(shard.attempt - 1 for shard in shards) == len(LIES)
    refusals = [event.text for event in place.store.events(run_id) if "failed" in event.text]
    for stage in LIES:
        assert sum(f"of {stage} on" in refusal for refusal in refusals) == 1, refusals
    assert_all_in_order(place)


def everything(place: Evaluation) -> list[tuple]:
    with place.store.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text("SELECT * FROM shards ORDER BY run_id, position"))]


def test_a_report_by_a_wrong_attempt_or_for_another_run_changes_neither_run(place: Evaluation):
    ours, another = place.create(PROTOCOL), place.create(PROTOCOL)
    held = place.store.claim("worker", run_id=ours)
    place.store.release(place.store.claim("worker", run_id=another))
    before = everything(place)
    honest = report(PROTOCOL, held.spec)
    for changes in (
        {"attempt": held.attempt + 1},
        {"attempt": held.attempt - 1},
        {"run_id": another},
        {"run_id": UUID(int=0)},
        {"position": held.position + 1},
    ):
        with pytest.raises(LostLease, match="refused"):
            place.store.finish(replace(held, **changes), honest)
        assert everything(place) == before
    place.store.finish(held, honest)
    assert [shard.state for shard in place.shards(ours)].count(ShardState.DONE) == 1
