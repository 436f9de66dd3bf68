"""A run that is killed in the middle of AutoAttack and resumed has the package's outcome of every example."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import torch

from evaluator.artifacts import Artifacts
from evaluator.attacks.autoattack import Implementation, first_broken_by
from evaluator.checkpoints import load_for_measuring, open_checkpoint
from evaluator.datasets import load_dataset
from evaluator.metrics import StageName
from evaluator.protocol import EvaluationProtocol, Examples
from evaluator.results import ShardResult, ShardSpec
from evaluator.shipped import SMOKE
from evaluator.stages import measure
from evaluator.store import RunStore
from evaluator.types import Norm, Split, ThreatModel
from evaluator.work import work
from fixtures.make_tiny import TINY
from tests.evaluator.attacks.parity import shortened

ROOT = Path(__file__).resolve().parents[3]
NONE = Examples(test=0, train=0)
PROTOCOL = replace(
    SMOKE, name="attacked", threat_model=ThreatModel(Norm.LINF, 0.05), clean_examples=Examples(test=10, train=0),
    robust_loss_examples=NONE, flatness_examples=NONE, autoattack_examples=Examples(test=10, train=0),
)  # fmt: skip
"""Chunks of 4, 4 and 2 examples; the first is a shard, as nothing says yet what a chunk costs."""
LEASE_SECONDS = 5.0


class Measurer:
    """Measures in this process, with fewer steps of FAB and Square; is shown each tick of a shard."""

    def __init__(self, on_tick: Callable[[ShardSpec], None] = lambda spec: None) -> None:
        self._on_tick = on_tick
        self.measured: list[ShardSpec] = []

    def __call__(self, checkpoint: Path) -> "Measurer":
        self._model = load_for_measuring(open_checkpoint(checkpoint))
        return self

    def measure(
        self, protocol: EvaluationProtocol, spec: ShardSpec, *, tick: Callable[[], None], batch_size: int | None = None
    ) -> ShardResult:
        def ticked() -> None:
            tick()
            self._on_tick(spec)

        self.measured.append(spec)
        dataset = load_dataset(protocol.dataset)
        with shortened():
            return measure(self._model, dataset, protocol, spec, batch_size=batch_size, tick=ticked)

    def close(self) -> None:
        pass


def work_until_killed(url: str, artifacts: str, run_id: str) -> None:
    """Be killed by the signal that nobody can catch, a hundred batches into AutoAttack's second chunk."""
    ticks: Counter[ShardSpec] = Counter()

    def on_tick(spec: ShardSpec) -> None:
        ticks[spec] += 1
        if spec.stage is StageName.AUTOATTACK and spec.start == 4 and ticks[spec] == 100:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    _work(RunStore(url), Artifacts(artifacts), UUID(run_id), Measurer(on_tick))


def _work(store: RunStore, artifacts: Artifacts, run_id: UUID, measurer: Measurer) -> None:
    work(
        store,
        artifacts,
        worker="here",
        run_id=run_id,
        device="cpu",
        lease_seconds=LEASE_SECONDS,
        open_measurer=measurer,
    )


def test_a_run_killed_in_the_second_of_three_chunks_and_resumed_has_the_packages_outcomes(tmp_path):
    url, folder, run_id = f"sqlite:///{tmp_path / 'runs.sqlite3'}", str(tmp_path / "artifacts"), uuid4()
    store, artifacts = RunStore(url), Artifacts(folder)
    store.create_tables()
    store.create_run(run_id, PROTOCOL, artifacts.put(TINY))
    code = f"from tests.evaluator.attacks.test_killed import work_until_killed as w; w({url!r}, {folder!r}, '{run_id}')"
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    before = store.shard_results(run_id, StageName.AUTOATTACK)
    assert [(result.spec.start, result.spec.stop) for result in before] == [(0, 4)]

    measurer = Measurer()
    while not store.run(run_id).state.ended:  # the killed process's lease has to run out first
        time.sleep(0.5)
        _work(store, artifacts, run_id, measurer)
    assert [i for spec in measurer.measured for i in range(spec.start, spec.stop)] == list(range(4, 10))
    results = sorted(store.shard_results(run_id, StageName.AUTOATTACK), key=lambda result: result.spec.start)
    outcomes = [outcome for result in results for outcome in result.values["broken_by"]]

    model = load_for_measuring(open_checkpoint(TINY))
    images, labels = load_dataset("digits").examples(Split.TEST, 0, 10)
    with shortened():
        reference, _ = first_broken_by(
            model, images, labels, threat_model=PROTOCOL.threat_model, settings=PROTOCOL.autoattack,
            implementation=Implementation.REFERENCE,
        )  # fmt: skip
    assert outcomes == reference
    assert len(set(outcomes)) > 1, "outcomes that are all the same compare nothing"
    store.close()
