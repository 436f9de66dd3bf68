"""`make bench`: speed ratios on this machine, both sides interleaved, medians of the rounds; writes var/bench.json.

A ratio is the other side's seconds divided by ours. One thread, so that the figures do not depend on the scheduler.
"""

import argparse
import copy
import functools
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from evaluator.checkpoints import load_for_measuring, load_model, open_checkpoint
from evaluator.combine import robust_losses
from evaluator.datasets import Dataset, load_dataset
from evaluator.flatness.neighborhood import sphere_sample
from evaluator.metrics import StageName
from evaluator.protocol import AutoAttackSettings
from evaluator.results import ShardSpec
from evaluator.seeding import ExampleNoise, Purpose
from evaluator.shipped import DIGITS_LINF as PROTOCOL
from evaluator.stages import device_name, library_versions, measure
from evaluator.types import Split
from tests.benchmarks import autoattack, components, engines, memory, scaling, site, training

ROOT = Path(__file__).resolve().parents[2]
SHARDS_A_SECOND = 100
"""The least that a store shall take, without any work in them."""


@dataclass(frozen=True)
class Bar:
    """Two ways to do the same work; each returns what it found, and `agree` says whether that is the same."""

    name: str
    bar: float
    ours: Callable[[], object]
    other: Callable[[], object]
    agree: Callable[[object, object], bool]
    clock: Callable[[], float] = time.process_time
    """Processor seconds, as the machine may be busy with other work; the clock's where other processes work."""
    points: int | None = None
    """How many images, where that is not what the command was asked for."""


def bars(points: int) -> list[Bar]:
    """Return the comparisons on `points` digits and the committed robust network."""
    checkpoint = open_checkpoint(ROOT / "fixtures" / "digits-at.safetensors")
    model, measured = load_model(checkpoint), load_for_measuring(checkpoint)
    digits = load_dataset("digits")
    attacked = min(points, 60)  # of AutoAttack, by which the package takes most of a minute
    close = lambda a, b: bool(torch.allclose(torch.tensor(a), torch.tensor(b), atol=1e-3))  # noqa: E731
    return [
        *engines.bars(model, measured, points, Bar),
        Bar("flatness_vs_plain_loop", 1.5, lambda: _flatness(measured, digits, points),
            lambda: _plain_flatness(model, digits, points), close),
        Bar("flatness_vs_floor", 0.85, lambda: _flatness(measured, digits, points),
            lambda: _bare_passes(measured, digits, points), lambda a, b: True),
        *(
            Bar(name, bar, functools.partial(autoattack.ours, model, digits, attacked, *how),
                functools.partial(autoattack.package, model, digits, attacked, *how), lambda a, b: a == b,
                points=attacked)
            for name, bar, *how in (
                ("autoattack_digits_vs_pyautoattack", 2.0, PROTOCOL.threat_model, PROTOCOL.autoattack),
                ("autoattack_robust_digits_vs_pyautoattack", 2.0, autoattack.SMALL_BUDGET, PROTOCOL.autoattack),
                ("autoattack_digits_vs_robustbench_default", 3.5, PROTOCOL.threat_model, AutoAttackSettings(32)),
            )
        ),
        Bar("training_vs_plain_loop", 1.0, training.by_recipe, training.by_plain_loop,
            lambda a, b: bool(torch.allclose(torch.tensor(a), torch.tensor(b), rtol=0.01))),
        Bar("queue_overhead", 0.95, lambda: scaling.by_workers(1, 10 * points, 25),
            lambda: scaling.by_evaluate(10 * points, 25), lambda a, b: a == b, time.perf_counter),
        Bar("two_workers_vs_one", 1.8, lambda: scaling.by_workers(2, 10 * points, 75),
            lambda: scaling.by_workers(1, 10 * points, 75), lambda a, b: a == b, time.perf_counter),
    ]  # fmt: skip


def _flatness(model: nn.Module, digits: Dataset, points: int) -> list[float]:
    spec = ShardSpec(StageName.FLATNESS, Split.TEST, 0, points, 0)
    values = measure(model, digits, PROTOCOL, spec, batch_size=points).values
    found = [torch.tensor(values[name]).numpy() for name in ("loss", "wrong_class_confidence")]
    return robust_losses(*found, PROTOCOL.flatness.attack.selection).tolist()


def _plain_flatness(model: nn.Module, digits: Dataset, points: int) -> list[float]:
    """The way public code does it: a deep copy a sample, weight gradients on, a last forward for the best iterate."""
    attack, epsilon = PROTOCOL.flatness.attack, PROTOCOL.threat_model.epsilon
    moved = copy.deepcopy(model).requires_grad_(True)
    for name, offset in sphere_sample(model, PROTOCOL.flatness.neighborhood, seed=PROTOCOL.seed, sample=0).items():
        moved.get_parameter(name).data += offset
    images, labels = digits.examples(Split.TEST, 0, points)
    noise = ExampleNoise(PROTOCOL.seed, Purpose.FLATNESS_START, Split.TEST, range(points), 0)
    x = (images + (2 * noise.uniform(images.shape) - 1) * epsilon).clamp(0, 1)
    worst = torch.full((points,), -torch.inf)
    for _ in range(attack.steps + 1):
        x = x.detach().requires_grad_()
        moved.zero_grad()
        loss = F.cross_entropy(moved(x), labels, reduction="none")
        loss.sum().backward()
        worst = torch.maximum(worst, loss.detach())
        step = (x + attack.step_size * x.grad.sign()).clamp(0, 1)
        x = torch.maximum(torch.minimum(step, images + epsilon), images - epsilon)
    return worst.tolist()


def _bare_passes(model: nn.Module, digits: Dataset, points: int) -> None:
    """The floor: as many forward and input-gradient passes as the measurement needs, and nothing else."""
    images, labels = digits.examples(Split.TEST, 0, points)
    steps = PROTOCOL.flatness.attack.steps
    for _ in range(steps):
        images.requires_grad_()
        torch.autograd.grad(F.cross_entropy(model(images), labels, reduction="sum"), images)
    with torch.no_grad():
        model(images)


def _line(row: dict[str, Any]) -> str:
    spread = f"[{row['lowest']:.2f}, {row['highest']:.2f}]"
    return f"{row['name']:<40} {row['ratio']:5.2f}  {spread}  bar {row['bar']}"


def main() -> int:
    """Run all comparisons; return 1 when two sides disagree, whatever the speed."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few points, for a first look")
    parser.add_argument("--rounds", type=int, help="default: 3, with --quick 1")
    parser.add_argument("--only", default="", metavar="WORD", help="the ratios whose names hold it")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    torch.set_num_threads(1)
    points = 20 if arguments.quick else 100
    ratios: list[dict[str, Any]] = []
    agreed = True
    for bar in (bar for bar in bars(points) if arguments.only in bar.name):
        seconds: dict[str, list[float]] = {"ours": [], "other": []}
        for _ in range(arguments.rounds):
            found = {}
            for side in seconds:
                started = bar.clock()
                found[side] = getattr(bar, side)()
                seconds[side].append(bar.clock() - started)
            same = bar.agree(found["ours"], found["other"])
            agreed = agreed and same
        each = [other / ours for ours, other in zip(seconds["ours"], seconds["other"], strict=True)]
        ratios.append({
            "name": bar.name, "ratio": round(median(each), 3), "lowest": round(min(each), 3),
            "highest": round(max(each), 3), "bar": bar.bar, "median_s": round(median(seconds["ours"]), 4),
            "points": bar.points or points, "rounds": arguments.rounds, "same_outcomes": same,
        })  # fmt: skip
        print(_line(ratios[-1]), flush=True)
    profiles: dict[str, object] = {}
    unmeasured = {}
    for device, name in (("cpu", "autoattack_resnet18"), ("cuda", "autoattack_gpu")):
        if not any(arguments.only in f"{name}_vs_{other}" for other in ("pyautoattack", "floor")):
            continue
        if device == "cuda" and not torch.cuda.is_available():
            unmeasured |= {f"{name}_vs_{other}": "torch sees no GPU here" for other in ("pyautoattack", "floor")}
            continue
        some = components.POINTS[device] // (2 if arguments.quick else 1)
        rows, profiles[name] = components.ratios(some, arguments.rounds, device)
        ratios += rows
        agreed = agreed and all(row["same_outcomes"] for row in rows)
        for row in rows:
            print(_line(row), flush=True)
    rates = {}
    for kind, workers in itertools.product(("sqlite", "postgresql"), (1, 64) if arguments.only in "shards" else ()):
        name = f"{kind}, {workers} workers"
        rates[name] = round(scaling.shards_a_second(kind, workers), 1)
        print(f"{'shards a second: ' + name:<46} {rates[name]:7.1f}  bar {SHARDS_A_SECOND}", flush=True)
    pages = site.board_milliseconds(10 * arguments.rounds) if arguments.only in "board" else {}
    for name, times in pages.items():
        spread = f"[{times['lower_ms']:.1f}, {times['upper_ms']:.1f}], processor {times['cpu_ms']:.1f}"
        print(f"{f'board of {site.ENTRIES}: {name}':<46} {times['median_ms']:7.1f} ms {spread}", flush=True)
    peaks = {}
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        if arguments.only in "memory":
            peaks[device] = round(memory.ratio(32, device), 3)
            print(f"{'memory of one pass: ' + device:<46} {peaks[device]:7.2f}  bar at most {memory.BAR}", flush=True)
    document = {
        "device": device_name("cpu"),
        "threads": 1,
        "versions": library_versions(),
        "ratios": ratios,
        "unmeasured": unmeasured,
        "autoattack_by_attack": profiles,
        "shards_a_second": rates,
        "board": pages,
        "memory": peaks,
    }
    target = ROOT / "var" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(document, indent=2) + "\n")
    for name, reason in unmeasured.items():
        print(f"{name:<40} unmeasured: {reason}")
    for row in ratios:
        if row["ratio"] < row["bar"]:
            print(f"MISSED: {row['name']} is {row['ratio']:.2f}, its bar is {row['bar']}")
        if not row["same_outcomes"]:
            print(f"DIFFERENT OUTCOMES: {row['name']}; its speed counts for nothing")
    print(f"written to {target.relative_to(ROOT)}")
    return 0 if agreed else 1


if __name__ == "__main__":
    raise SystemExit(main())
