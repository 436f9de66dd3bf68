"""`python -m evaluator CHECKPOINT --protocol NAME`: measure one checkpoint, or one network of RobustBench, here.

It works as a worker does, on a run store of its own under var/evaluations, where `--resume` finds what an interrupted
call has finished.

Exit codes: 0 measured · 1 a failure of ours · 2 the request or the checkpoint is wrong · 130 interrupted.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from evaluator.architectures import ARCHITECTURES
from evaluator.artifacts import Artifacts
from evaluator.checkpoint_file import Checkpoint
from evaluator.environment import ROOT, Environment, read_environment
from evaluator.exceptions import EvaluatorError, Fault, InvalidRequest
from evaluator.intake import receive
from evaluator.manifest import Manifest, read_options
from evaluator.metrics import CURVES, METRICS, CurveDefinition, StageName, Unit
from evaluator.preview import Preview, require_preview
from evaluator.protocol import EvaluationProtocol
from evaluator.results import CurvePoint, EvaluationResult, Measurement, ShardSpec, evaluation_to_json
from evaluator.scratch import scratch_folder
from evaluator.shipped import PROTOCOLS, find_protocol
from evaluator.store import RunState, RunStore
from evaluator.trust.findings import Verdict
from evaluator.trust.judgement import judge_claim
from evaluator.types import AutoAttackVersion, Split

FOLDER = ROOT / "var" / "evaluations"
_PUBLISHED = "robustbench:"
LEASE_SECONDS = 10.0
"""Short: a killed call's shard is free again before its owner has typed the next one."""


def parser(program: str = "python -m evaluator") -> argparse.ArgumentParser:
    """Return the argument parser, which `manage.py evaluate` shares."""
    arguments = argparse.ArgumentParser(
        prog=program, description="Measure robust loss, AutoAttack robust error and flatness of a checkpoint."
    )
    arguments.add_argument(
        "checkpoint", type=Path, help="safetensors with its manifest inside, or weights of the network named below"
    )
    arguments.add_argument("--protocol", default="digits-linf", help=f"one of {', '.join(PROTOCOLS)}")
    arguments.add_argument("--protocol-version", type=int, help="an older version of the protocol")
    arguments.add_argument("--architecture", help=f"for a file without a manifest: {', '.join(ARCHITECTURES)}")
    arguments.add_argument("--options", default="{}", metavar="JSON", help="the architecture's options")
    arguments.add_argument("--dataset", help="for a file without a manifest (default: the protocol's)")
    arguments.add_argument("--device", help="auto, cpu, cuda or cuda:n (default: EVALUATION_DEVICE)")
    arguments.add_argument("--limit", type=int, metavar="N", help="at most N examples a split; never rankable")
    arguments.add_argument(
        "--preview", action="store_true", help="say a quick estimate of the robust error as soon as it stands"
    )
    arguments.add_argument(
        "--low-precision", action="store_true", help="let AutoAttack search in bfloat16; never rankable"
    )
    arguments.add_argument("--resume", action="store_true", help="go on where an interrupted call stopped")
    arguments.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments.add_argument("--out", type=Path, metavar="FILE", help="write the result as JSON to FILE")
    return arguments


def main(argv: Sequence[str] | None = None, program: str = "python -m evaluator") -> int:
    """Measure what the arguments name and print it; return the exit code."""
    arguments = parser(program).parse_args(argv)
    messages = Console(stderr=True)
    try:
        result = _measure(arguments, messages)
    except EvaluatorError as error:
        messages.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 1 if error.fault is Fault.OURS else 2
    except KeyboardInterrupt:
        messages.print("interrupted; the same command with --resume goes on from here")
        return 130
    if arguments.out is not None:
        arguments.out.write_text(evaluation_to_json(result, indent=2) + "\n")
    if arguments.json:
        sys.stdout.write(evaluation_to_json(result, indent=2) + "\n")
    else:
        print_result(result, Console())
    return 0


def print_result(result: EvaluationResult, console: Console) -> None:
    """Print all numbers with their 95 % intervals and what they rest on."""
    title = f"{result.protocol} v{result.protocol_version}"
    if result.limit is not None:
        title += f", at most {result.limit} examples a split (not rankable)"
    if result.autoattack is not AutoAttackVersion.STANDARD:
        title += f", AutoAttack {result.autoattack}: searched in bfloat16, confirmed in float32 (not rankable)"
    table = Table(title=title, caption="value [95 % interval], n examples", title_justify="left", box=SIMPLE,
                  pad_edge=False, padding=(0, 1, 0, 0))  # fmt: skip
    for header in ("", "test", "n", "train", "n"):
        table.add_column(header, justify="right" if header else "left", no_wrap=True)
    found = {(m.metric, m.split): m for m in result.measurements}
    for metric in METRICS.values():
        splits = (Split.TEST, Split.TRAIN) if metric.per_split else (None,)
        numbers = [found.get((metric.key, split)) for split in splits]
        if any(numbers):
            cells = [cell for number in numbers for cell in _cells(number, metric.unit)]
            table.add_row(f"{metric.symbol} {metric.direction.arrow}", *cells)
    console.print(table)
    for curve in CURVES.values():
        if any(one.key == curve.key for one in result.curves):
            console.print(_curve_table(curve, result))
    versions = " · ".join(f"{name} {'/'.join(seen)}" for name, seen in result.versions.items())
    devices = sorted({device for stage in result.stages for device in stage.devices})
    sandboxes = sorted({sandbox for stage in result.stages for sandbox in stage.sandboxes})
    seconds = sum(stage.seconds for stage in result.stages)
    for line in (
        f"checkpoint sha256 {result.checkpoint_sha256 or 'none, as it was no file of ours'}",
        f"protocol digest {result.protocol_digest} · seed {result.seed}",
        f"{versions} · {', '.join(devices)} · {seconds:.1f} s of measuring",
        f"sandbox {' / '.join(sandboxes) or 'none'}",
    ):
        console.print(line, highlight=False, soft_wrap=True)
    for finding in result.findings:
        if finding.verdict is not Verdict.PASS:
            console.print(f"[yellow]trust check {finding.verdict}s:[/] {escape(finding.sentence)}", highlight=False)
    if result.findings:
        passed = sum(finding.verdict is Verdict.PASS for finding in result.findings)
        console.print(f"{passed} of {len(result.findings)} trust checks pass", highlight=False)
    for warning in sorted({warning for stage in result.stages for warning in stage.warnings}):
        console.print(f"[yellow]AutoAttack warns:[/] {escape(warning)}", highlight=False)


def _curve_table(curve: CurveDefinition, result: EvaluationResult) -> Table:
    found = {one.split: one for one in result.curves if one.key == curve.key}
    splits = [split for split in Split if split in found]
    examples = ", ".join(f"{found[split].n} {split}" for split in splits)
    table = Table(title=curve.label, caption=f"value [95 % interval], {examples} examples", title_justify="left",
                  box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), min_width=56)  # fmt: skip  # titles on one line
    for header in ("ξ", *splits):
        table.add_column(header, justify="right", no_wrap=True)
    for points in zip(*(found[split].points for split in splits), strict=True):
        table.add_row(f"{points[0].position:g}", *(_number(point, curve.unit) for point in points))
    return table


def print_preview(preview: Preview, console: Console) -> None:
    """Print a quick estimate, and that it is one."""
    console.print(
        f"[bold]preview[/]: RErr test {preview.value:.1%} {escape(f'[{preview.low:.1%}, {preview.high:.1%}]')}, "
        f"{preview.basis}; the standard number follows",
        highlight=False,
    )


def _cells(m: Measurement | None, unit: Unit) -> tuple[str, str]:
    return (_number(m, unit), str(m.n)) if m else ("–", "–")


def _number(one: Measurement | CurvePoint, unit: Unit) -> str:
    form = ".1%" if unit is Unit.FRACTION else ".3f"
    return f"{one.value:{form}} [{one.low:{form}}, {one.high:{form}}]"


def _measure(arguments: argparse.Namespace, messages: Console) -> EvaluationResult:
    protocol = find_protocol(arguments.protocol, arguments.protocol_version)
    if arguments.low_precision:
        protocol = protocol.in_low_precision()
    if arguments.out is not None and not arguments.out.resolve().parent.is_dir():
        raise InvalidRequest(f"--out names a folder that does not exist: {arguments.out.parent}")
    if arguments.preview:
        require_preview(protocol)
    environment = read_environment()
    if str(arguments.checkpoint).startswith(_PUBLISHED):
        return _measure_published(arguments, protocol, environment, messages)
    limited = protocol.limited(arguments.limit)
    with scratch_folder() as folder:
        checkpoint = _opened(arguments, protocol, folder)
        device = arguments.device or environment.device
        _check_measurable(checkpoint, limited, environment.data_dir, device)
        FOLDER.mkdir(parents=True, exist_ok=True)
        artifacts = Artifacts(str(FOLDER / "artifacts"))
        artifacts.put(checkpoint.path)
    store = RunStore(f"sqlite:///{FOLDER / 'runs.sqlite3'}")
    try:
        store.create_tables()
        run_id = (_unfinished(store, checkpoint, limited) if arguments.resume else None) or uuid4()
        store.create_run(run_id, protocol, checkpoint.sha256, limit=arguments.limit, preview=arguments.preview)
        result = _work_until_complete(store, artifacts, run_id, device, messages)
        return judge_claim(result, checkpoint.manifest.notes)
    finally:
        store.close()


def _measure_published(
    arguments: argparse.Namespace, protocol: EvaluationProtocol, environment: Environment, messages: Console
) -> EvaluationResult:
    """Measure a network of RobustBench in this process: its code is not ours, and it has no file of ours."""
    from evaluator.architectures.zoo import load_zoo_model
    from evaluator.datasets import load_dataset
    from evaluator.devices import find_device
    from evaluator.evaluation import evaluate

    if arguments.resume or arguments.architecture is not None:
        raise InvalidRequest(
            "a network of RobustBench brings its architecture with it and is measured in one go; leave --resume and "
            "--architecture out"
        )
    name = str(arguments.checkpoint).removeprefix(_PUBLISHED)
    device = find_device(arguments.device or environment.device)
    dataset = load_dataset(protocol.dataset, data_dir=environment.data_dir)
    norm = protocol.threat_model.norm
    model = load_zoo_model(name, protocol.dataset, norm, environment.data_dir / "robustbench")
    with _progress(messages) as progress:
        bar = progress.add_task(name[:22])

        def advance(_: ShardSpec, done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        return evaluate(
            model, protocol, dataset=dataset, device=device, limit=arguments.limit, progress=advance,
            on_preview=partial(print_preview, console=messages) if arguments.preview else None,
        )  # fmt: skip


def _progress(messages: Console) -> Progress:
    columns = (
        TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TextColumn("examples"),
        TimeElapsedColumn(), TextColumn("eta"), TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=messages, transient=True)


def _opened(arguments: argparse.Namespace, protocol: EvaluationProtocol, folder: Path) -> Checkpoint:
    """Open the checkpoint; of one without a manifest, one with the named network inside is first made in `folder`."""
    manifest = None
    if arguments.architecture is not None:
        options = read_options(arguments.options)
        manifest = Manifest(arguments.architecture, arguments.dataset or protocol.dataset, options)
    return receive(arguments.checkpoint, folder, manifest=manifest)


def _unfinished(store: RunStore, checkpoint: Checkpoint, protocol: EvaluationProtocol) -> UUID | None:
    """Return the newest run of this measurement that has not failed, or None."""
    same = [
        run.id
        for run in store.runs(RunState.QUEUED, RunState.RUNNING, RunState.COMPLETE)
        if (run.checkpoint_sha256, run.protocol_digest) == (checkpoint.sha256, protocol.digest)
    ]
    return same[-1] if same else None


def _check_measurable(checkpoint: Checkpoint, protocol: EvaluationProtocol, data_dir: Path, device: str) -> None:
    """Fail before anything is stored: device and data at hand, network and data set matching, weights sound."""
    from evaluator.checkpoints import load_model
    from evaluator.datasets import load_dataset
    from evaluator.devices import find_device

    if checkpoint.manifest.dataset != protocol.dataset:
        raise InvalidRequest(
            f"{checkpoint.path.name} is a classifier of {checkpoint.manifest.dataset}, but {protocol.label} measures "
            f"on {protocol.dataset}; choose a protocol of its data set"
        )
    load_dataset(protocol.dataset, data_dir=data_dir)
    load_model(checkpoint, device=find_device(device))


def _work_until_complete(
    store: RunStore, artifacts: Artifacts, run_id: UUID, device: str, messages: Console
) -> EvaluationResult:
    from evaluator.work import work

    with _progress(messages) as progress:
        stages = {(s.stage, s.split): s for s in store.progress(run_id)}
        bars = {
            key: progress.add_task(f"{key[0]} {key[1]}", total=s.examples, completed=s.examples_done)
            for key, s in stages.items()
        }

        def advance(spec: ShardSpec) -> None:
            progress.advance(bars[spec.stage, spec.split], len(spec))
            if spec.stage is StageName.PREVIEW and (preview := store.preview(run_id)):
                print_preview(preview, messages)

        while True:
            work(store, artifacts, worker="cli", run_id=run_id, device=device, lease_seconds=LEASE_SECONDS,
                 on_shard=lambda claim, _result: advance(claim.spec))  # fmt: skip
            run = store.run(run_id)
            assert run is not None, f"run {run_id} vanished while it was measured"
            if run.state.ended:
                break
            time.sleep(1)  # a shard is still leased to a call that was killed, or to one beside this
    result = store.result(run_id)
    if result is None:
        fault = run.fault or Fault.OURS
        failure = EvaluatorError(run.error or f"the run ended as {run.state}")
        failure.fault = fault
        raise failure
    assert run.state is RunState.COMPLETE
    return result
