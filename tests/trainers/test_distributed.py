"""Several processes train what one would: the same losses and weights, and after kill -9 the same again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from evaluator.exceptions import InvalidRequest
from evaluator.seeding import GeneratorNoise
from tests.trainers.joint_training import RECIPES, without_statistics
from tests.trainers.test_cli import SMALL
from trainers import processes
from trainers.assembly import assemble
from trainers.loop import train
from trainers.processes import Processes, SharedNoise

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 2
DEADLINE_SECONDS = 600


def torchrun(*command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={PROCESSES}", "--standalone", *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(started: "subprocess.Popen[str]") -> str:
    output, errors = started.communicate(timeout=DEADLINE_SECONDS)
    assert started.returncode == 0, errors
    return output


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    finished(torchrun("tests/trainers/joint_training.py", str(folder)))
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_go_the_way_of_one_with_the_joint_batch(
    name: str, together: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nn.BatchNorm2d, "forward", without_statistics)
    alone = train(RECIPES[name], seed=3, folder=tmp_path)
    ours, theirs = (
        [json.loads(line) for line in log.read_text().splitlines()]
        for log in (alone.log, together / name / alone.log.name)
    )
    for key in ("loss", "learning_rate"):
        assert [line[key] for line in theirs] == pytest.approx([line[key] for line in ours], rel=1e-4)
    watched = [line["held_out"]["robust_loss"] for line in theirs if line["held_out"]]
    assert watched == pytest.approx([line["held_out"]["robust_loss"] for line in ours if line["held_out"]], rel=1e-3)
    untrained = assemble(RECIPES[name], seed=3, device=torch.device("cpu"), data_dir=None).model
    one, two = (load_file(folder / alone.final.name) for folder in (tmp_path, together / name))
    for key, weight in untrained.named_parameters():
        moved = (one[key] - weight).abs().max()
        assert moved > 0
        assert (one[key] - two[key]).abs().max() < 1e-3 * moved, key


def test_a_network_with_batchnorm_killed_at_any_moment_ends_as_if_undisturbed(tmp_path: Path) -> None:
    call = ["-m", "trainers", "digits/at", *SMALL, "epochs=40", "--device=cpu", "--save-every=5", "--folder"]
    said = finished(torchrun(*call, str(tmp_path / "straight")))
    assert said.count("checkpoint") == 1
    broken, epoch = tmp_path / "broken", random.randrange(7, 35)
    log = broken / "log.jsonl"
    started = torchrun(*call, str(broken))
    until = time.monotonic() + DEADLINE_SECONDS
    while not (log.exists() and log.read_bytes().count(b"\n") >= epoch) and time.monotonic() < until:
        assert started.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    assert len(children) == PROCESSES
    for process in (started.pid, *map(int, children)):
        os.kill(process, signal.SIGKILL)
    started.communicate()
    assert not (broken / "final.safetensors").exists(), f"killed after epoch {epoch}, too late"
    finished(torchrun(*call, str(broken)))
    for name in ("final.safetensors", "best.safetensors"):
        assert (broken / name).read_bytes() == (tmp_path / "straight" / name).read_bytes(), f"killed at epoch {epoch}"


@given(count=st.integers(1, 5), examples=st.integers(5, 23))
def test_shares_are_the_batch_and_their_weighted_means_its_mean(count: int, examples: int) -> None:
    batch = torch.rand(examples, 2, dtype=torch.float64)
    everybody = [Processes(rank, count) for rank in range(count)]
    shares = [one.share(batch) for one in everybody]
    assert sorted(torch.cat(shares).tolist()) == sorted(batch.tolist())
    means = [one.weight(examples) * share.mean(0) for one, share in zip(everybody, shares, strict=True)]
    torch.testing.assert_close(torch.stack(means).mean(0), batch.mean(0))


@given(count=st.integers(1, 4), examples=st.integers(4, 9))
def test_the_noise_of_shares_is_the_noise_of_the_batch(count: int, examples: int) -> None:
    joint = GeneratorNoise(torch.Generator().manual_seed(7))
    expected = [joint.uniform((examples, 2, 3)), joint.normal((examples,))]
    for rank in range(count):
        one, noise = Processes(rank, count), GeneratorNoise(torch.Generator().manual_seed(7))
        shared, mine = SharedNoise(noise, one, examples), len(range(rank, examples, count))
        for drawn, whole in zip([shared.uniform((mine, 2, 3)), shared.normal((mine,))], expected, strict=True):
            assert torch.equal(drawn, whole[rank::count])


def test_one_gpu_for_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    monkeypatch.setattr(processes, "find_device", torch.device)
    with pytest.raises(InvalidRequest, match="cuda:1 was named for several processes"), processes.joined("cuda:1"):
        pytest.fail("joined")


def test_a_batch_smaller_than_the_processes_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="a batch of 2 examples was drawn for 3 processes"):
        Processes(0, 3).weight(2)
