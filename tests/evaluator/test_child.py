"""Measuring in a process of its own: the same numbers, and whatever becomes of that process costs one shard."""

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evaluator import measuring
from evaluator.architectures import build, parse_options
from evaluator.checkpoints import load_for_measuring, open_checkpoint, save_checkpoint
from evaluator.child import MeasuringChild, clean_environment
from evaluator.dataset_facts import find_dataset_facts
from evaluator.datasets import load_dataset
from evaluator.environment import ROOT, read_environment
from evaluator.exceptions import (
    EvaluatorError,
    InvalidCheckpoint,
    InvalidRequest,
    InvalidResult,
    MeasuringDied,
    MeasuringFailed,
    OutOfMemory,
    ShardTimeout,
)
from evaluator.manifest import Manifest
from evaluator.messages import Measured, Ready, Request, answer_to_line
from evaluator.metrics import StageName
from evaluator.plan import plan
from evaluator.protocol import Examples, to_json
from evaluator.results import PassCounts, ShardResult, ShardSpec
from evaluator.sandbox import find_sandbox
from evaluator.shipped import SMOKE
from evaluator.stages import device_name, library_versions, measure
from evaluator.types import Split
from fixtures.make_tiny import TINY
from tests.evaluator.test_lifetime import await_end, gone, innermost

PROTOCOL = SMOKE.limited(4)
CLEAN = ShardSpec(StageName.CLEAN, Split.TEST, 0, 4)
READY = Ready("a device", {"torch": "2"})


def nothing() -> None:
    """Wait on."""


def of_checkpoint(path: Path = TINY, **options) -> MeasuringChild:
    return MeasuringChild(path, device="cpu", data_dir=None, **options)


@pytest.fixture(scope="module")
def child() -> Iterator[MeasuringChild]:
    """One process for all tests that do it no harm; each start costs an import of torch."""
    with of_checkpoint() as child:
        child.measure(PROTOCOL, CLEAN, tick=nothing)
        yield child


@pytest.fixture
def impostor(monkeypatch) -> Iterator[Callable[[str], MeasuringChild]]:
    """A child whose process runs the given code instead of the measuring program, after it said that it is ready."""
    children = []

    def impostor(code: str, ready: bytes = answer_to_line(READY)) -> MeasuringChild:
        children.append(of_checkpoint())
        code = f"import os, sys, time\nos.write(1, {ready!r})\n{code}"
        monkeypatch.setattr(children[-1], "_command", [sys.executable, "-c", code])
        return children[-1]

    yield impostor
    for child in children:
        child.close()


def result_of(spec: ShardSpec) -> ShardResult:
    """Measure in this process."""
    model = load_for_measuring(open_checkpoint(TINY))
    return measure(model, load_dataset("digits"), PROTOCOL, spec)


@pytest.mark.parametrize("spec", plan(PROTOCOL), ids=str)
def test_numbers_are_those_of_a_measurement_in_this_process_bit_for_bit(child, spec):
    result, expected = child.measure(PROTOCOL, spec, tick=nothing), result_of(spec)
    assert replace(result, seconds=expected.seconds, sandbox="") == expected


def test_the_batch_size_is_the_one_that_is_asked_for_and_changes_no_number(child):
    spec = next(spec for spec in plan(PROTOCOL) if spec.stage is StageName.ROBUST_LOSS)
    assert child.measure(PROTOCOL, spec, tick=nothing, batch_size=4).values == result_of(spec).values


def test_device_and_versions_are_known_once_it_is_ready(child):
    assert (child.device, child.versions) == (device_name("cpu"), library_versions())
    assert (of_checkpoint().device, of_checkpoint().versions, of_checkpoint().pid) == ("", {}, None)


def test_an_error_comes_back_by_its_class_with_its_sentence_and_the_process_serves_on(child):
    pid, beyond = child.pid, ShardSpec(StageName.CLEAN, Split.TEST, 990, 1010)
    with pytest.raises(InvalidRequest, match="examples 990 to 1010 of digits test were asked for") as caught:
        child.measure(PROTOCOL, beyond, tick=nothing)
    assert "Traceback" in caught.value.log
    assert child.measure(PROTOCOL, CLEAN, tick=nothing).values == result_of(CLEAN).values
    assert child.pid == pid


def test_an_error_nobody_foresaw_is_ours_and_named(child):
    nowhere = ShardSpec(StageName.FLATNESS, Split.TEST, 0, 4, weight_sample=None)
    with pytest.raises(MeasuringFailed, match=r"^AssertionError: .* names no weight sample") as caught:
        child.measure(PROTOCOL, nowhere, tick=nothing)
    assert "Traceback" in caught.value.log


def test_the_process_knows_no_store_and_no_secret(child):
    secrets = ("RUN_STORE_URL", "QUEUE_URL", "ARTIFACTS_URL", "DATABASE_URL", "SECRET_KEY", "AWS_SECRET_ACCESS_KEY")
    told = dict.fromkeys((*secrets, "OMP_NUM_THREADS", "LC_ALL", "CUDA_VISIBLE_DEVICES"), "1")
    kept = clean_environment(told)
    assert kept.keys() - told.keys() == {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}
    assert kept.keys() & told.keys() == told.keys() - set(secrets)
    assert clean_environment({"MALLOC_TRIM_THRESHOLD_": "1"})["MALLOC_TRIM_THRESHOLD_"] == "1"
    running = Path(f"/proc/{innermost(child.pid)}/environ").read_bytes().decode().split("\0")
    assert {entry.partition("=")[0] for entry in running if entry} <= clean_environment().keys() | {"LC_CTYPE", "PWD"}


def test_a_process_killed_in_a_shard_costs_that_shard_and_the_next_starts_another():
    with of_checkpoint() as child:
        first = child.measure(PROTOCOL, CLEAN, tick=nothing)
        for by, last_lines in ((signal.SIGSEGV, "Segmentation fault"), (signal.SIGKILL, "")):
            pid = innermost(child.pid)
            with pytest.raises(MeasuringDied, match=by.name) as caught:
                child.measure(PROTOCOL, CLEAN, tick=lambda pid=pid, by=by: os.kill(pid, by))
            await_end(pid)
            assert last_lines in caught.value.log
            if by is signal.SIGSEGV:
                assert child.measure(PROTOCOL, CLEAN, tick=nothing).values == first.values
                assert innermost(child.pid) != pid


def test_a_process_that_hangs_is_ended_at_the_limit():
    with of_checkpoint(shard_seconds=0.5) as child:
        stopped = []

        def stop() -> None:
            stopped.append(innermost(child.pid))
            os.kill(stopped[-1], signal.SIGSTOP)

        with pytest.raises(ShardTimeout, match=r"clean on test examples 0…3 was not measured within 0\.5 seconds"):
            child.measure(PROTOCOL, CLEAN, tick=stop)
        await_end(stopped[0])
        assert child.pid is None


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ZeroDivisionError])
def test_what_a_tick_raises_ends_the_process_at_once_and_goes_through(interruption):
    with of_checkpoint() as child:
        seen = []

        def tick() -> None:
            seen.append(innermost(child.pid))
            raise interruption

        with pytest.raises(interruption):
            child.measure(PROTOCOL, CLEAN, tick=tick)
        await_end(seen[0])


def test_a_process_in_the_middle_of_a_shard_ends_with_its_parent_however_that_dies():
    code = f"""
from dataclasses import replace
from pathlib import Path
from evaluator.child import MeasuringChild
from evaluator.metrics import StageName
from evaluator.shipped import SMOKE
from evaluator.results import ShardSpec
from evaluator.types import Split
from tests.evaluator.test_lifetime import innermost
child = MeasuringChild(Path({str(TINY)!r}), device="cpu", data_dir=None)
child.measure(SMOKE.limited(4), ShardSpec(StageName.CLEAN, Split.TEST, 0, 4), tick=lambda: None)
endless = replace(SMOKE, robust_loss=replace(SMOKE.robust_loss, steps=10**9))
told = []
def tick():
    told.append(told or print(innermost(child.pid), flush=True))
child.measure(endless, ShardSpec(StageName.ROBUST_LOSS, Split.TEST, 0, 4), tick=tick)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
    await_end(pid)


def test_a_checkpoint_that_is_none_is_the_submitters_fault_and_leaves_no_process(tmp_path):
    (tmp_path / "junk").write_bytes(b"no tensors here")
    with of_checkpoint(tmp_path / "junk") as child:
        with pytest.raises(InvalidCheckpoint) as expected:
            open_checkpoint(tmp_path / "junk")
        with pytest.raises(InvalidCheckpoint) as caught:
            child.measure(PROTOCOL, CLEAN, tick=nothing)
        assert str(caught.value) == str(expected.value)
        assert child.pid is None


def said(answer: str) -> str:
    """Return code that reads a request and answers so, then waits for ever."""
    line = answer.encode() + b"\n"
    return f"sys.stdin.readline(); os.write(1, {line!r}); sys.stdin.readline()"


def reported(spec: ShardSpec = CLEAN, **changes) -> str:
    values = {"loss": [0.0] * 4, "prediction": [0] * 4, "label": [0] * 4}
    result = ShardResult(spec, values, PassCounts(), 0.0, READY.device, READY.versions)
    return answer_to_line(Measured(replace(result, **changes))).decode().strip()


def test_an_impostor_may_answer_in_order(impostor):
    child = impostor(said(reported(sandbox="the highest walls there are")))
    result = child.measure(PROTOCOL, CLEAN, tick=nothing)
    assert result.values["label"] == [0] * 4
    assert result.sandbox == str(find_sandbox(read_environment().sandbox))  # of which its word counts for nothing


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "null",
        "[" * 5000,
        '{"kind": "measured"}',
        '{"kind": "measured", "result": {}}',
        '{"kind": "ready", "device": "", "versions": {}}',
        '{"kind": "open", "path": "/etc/passwd"}',
        '{"kind": "failed", "error": "InvalidCheckpoint", "message": "", "fault": "operator"}',
        reported(replace(CLEAN, stop=5)),
        reported(seconds=1e9),
        reported(seconds=-1.0),
        reported(device="another"),
        reported(warnings=("\x00",)),
        reported() + "\n" + reported(),
        reported().replace("0.0,0.0", "0.0,NaN").replace('"seconds":0.0', '"seconds":NaN'),
        "x" * 100_000,
    ],
)
def test_an_answer_that_is_none_is_refused_and_ends_the_process(impostor, answer):
    child = impostor(said(answer))
    with pytest.raises(InvalidResult):
        child.measure(PROTOCOL, CLEAN, tick=nothing)
    assert child.pid is None


@pytest.mark.parametrize("ready", [b"\n", b'{"kind": "measured"}\n', reported().encode() + b"\n"])
def test_a_process_that_does_not_say_that_it_is_ready_is_refused(impostor, ready):
    with pytest.raises(InvalidResult):
        impostor("sys.stdin.readline()", ready).measure(PROTOCOL, CLEAN, tick=nothing)


@pytest.mark.parametrize("name", ["LostLease", "StoreUnavailable", "KeyboardInterrupt", "os.system"])
def test_a_process_cannot_choose_an_error_that_is_not_its_own(impostor, name):
    child = impostor(said(f'{{"kind": "failed", "error": "{name}", "message": "\\u0000 reason"}}'))
    with pytest.raises(EvaluatorError) as caught:
        child.measure(PROTOCOL, CLEAN, tick=nothing)
    assert type(caught.value) is MeasuringFailed
    assert str(caught.value) == f"{name}: \ufffd reason"


def test_what_libraries_print_does_not_reach_the_answers(impostor):
    code = (
        "from evaluator.measuring import _take_output\n"
        "with _take_output() as output:\n"
        "    sys.stdin.readline(); print('a library', flush=True); os.write(1, b'C++')\n"
        f"    output.write({reported().encode()!r} + b'\\n'); output.flush(); sys.stdin.readline()"
    )
    assert impostor(code).measure(PROTOCOL, CLEAN, tick=nothing).spec == CLEAN


def data_bytes(child: MeasuringChild) -> int:
    """Return what RLIMIT_DATA counts of the child."""
    status = Path(f"/proc/{innermost(child.pid)}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))


def test_memory_that_does_not_suffice_halves_the_batch_and_changes_no_number(tmp_path):
    manifest = Manifest("digits-cnn", "digits", {"width": 64})
    facts = find_dataset_facts("digits")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(manifest.architecture, parse_options(manifest.architecture, manifest.options), facts)
    path = save_checkpoint(network, manifest, tmp_path / "wide.safetensors").path
    many = Examples(test=1000, train=0)
    attack = replace(SMOKE.robust_loss, steps=1, restarts=3)  # 3,000 rows
    protocol = replace(
        SMOKE, clean_examples=many, robust_loss_examples=many, robust_loss=attack, flatness_examples=Examples(0, 0)
    )
    few, all_of_them = (ShardSpec(StageName.ROBUST_LOSS, Split.TEST, 0, stop) for stop in (8, 1000))
    with of_checkpoint(path) as child:
        child.measure(protocol, few, tick=nothing)
        little = data_bytes(child)
        expected = child.measure(protocol, all_of_them, tick=nothing, batch_size=3000)
        much = data_bytes(child)
    limit = little + (much - little) // 4  # what is not given back counts in `much`, too
    assert much - limit > 1 << 25  # far more than chance
    with of_checkpoint(path, memory_bytes=limit) as child:
        assert child.measure(protocol, all_of_them, tick=nothing, batch_size=3000).values == expected.values
        assert data_bytes(child) <= limit
        assert 4 <= child._fitting[StageName.ROBUST_LOSS] < 3000


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("could not create a primitive"),
    ],
    ids=lambda error: type(error).__name__ + str(error)[:4],
)
def test_every_way_of_running_out_of_memory_is_recognised(monkeypatch, error):
    def exhausted(*_, **__):
        raise error

    monkeypatch.setattr("evaluator.stages.measure", exhausted)
    with pytest.raises(OutOfMemory, match="clean on test examples 0…3 needs more memory than cpu has, in batches of 4"):
        measuring._measure(None, torch.device("cpu"), ROOT, Request(to_json(PROTOCOL), CLEAN, 4), {})


def test_an_error_that_is_not_of_memory_is_not_taken_for_one():
    assert not measuring.memory_ran_out(RuntimeError("shapes do not match"))
    assert not measuring.memory_ran_out(ValueError("out of memory"))


def out_of_memory() -> str:
    """Return code that notes the batch sizes it is asked for in the file at the end of its command line."""
    failed = '{"kind": "failed", "error": "OutOfMemory", "message": "too little"}'
    return (
        "import json; size = json.loads(sys.stdin.readline())['batch_size']\n"
        f"print(size, file=open(sys.argv[1], 'a')); os.write(1, {failed.encode()!r} + b'\\n'); sys.stdin.readline()"
    )


@pytest.mark.parametrize(
    ("stage", "examples", "asked", "sizes"),
    [
        (StageName.CLEAN, 1000, None, [None, 32, 16, 8, 4, 2, 1]),
        (StageName.CLEAN, 20, None, [None, 20, 8, 4, 2, 1]),
        (StageName.CLEAN, 1000, 8, [8, 4, 2, 1]),
        (StageName.AUTOATTACK, 1000, 16, [16, 8, 4, 2, 1]),
    ],
)
def test_the_batch_is_halved_down_to_one_in_a_new_process_each(impostor, tmp_path, stage, examples, asked, sizes):
    child = impostor(out_of_memory())
    child._command.append(str(tmp_path / "sizes"))
    spec = ShardSpec(stage, Split.TEST, 0, examples)
    for expected in (sizes, sizes[-1:]):  # what fits is remembered
        with pytest.raises(OutOfMemory, match="too little"):
            child.measure(PROTOCOL, spec, tick=nothing, batch_size=asked)
        assert [ast.literal_eval(line) for line in (tmp_path / "sizes").read_text().split()] == expected
        (tmp_path / "sizes").unlink()
        assert child.pid is None
