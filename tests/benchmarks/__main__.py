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

import torch
import torch.nn.functional as F
from pyautoattack import AutoAttack
from torch import nn

from evaluator.attacks.autoattack import first_broken_by
from evaluator.checkpoints import load_for_measuring, load_model, open_checkpoint
from evaluator.combine import robust_losses
from evaluator.datasets import Dataset, load_dataset
from evaluator.flatness.neighborhood import sphere_sample
from evaluator.metrics import StageName
from evaluator.observed import observed
from evaluator.protocol import DIGITS_LINF as PROTOCOL
from evaluator.protocol import AutoAttackSettings
from evaluator.results import ShardSpec
from evaluator.seeding import ExampleNoise, Purpose
from evaluator.stages import device_name, library_versions, measure
from evaluator.types import Norm, Split, ThreatModel
from tests.benchmarks import engines, memory, scaling, site, training

ROOT = Path(__file__).resolve().parents[2]
SMALL_BUDGET = ThreatModel(Norm.LINF, 0.02)
"""One that nearly all digits withstand, so that every attack runs to its end."""
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


def bars(points: int) -> list[Bar]:
    """Return the comparisons on `points` digits and the committed robust network."""
    checkpoint = open_checkpoint(ROOT / "fixtures" / "digits-at.safetensors")
    model, measured = load_model(checkpoint), load_for_measuring(checkpoint)
    digits = load_dataset("digits")
    close = lambda a, b: bool(torch.allclose(torch.tensor(a), torch.tensor(b), atol=1e-3))  # noqa: E731
    return [
        *engines.bars(model, measured, points, Bar),
        Bar("flatness_vs_plain_loop", 1.5, lambda: _flatness(measured, digits, points),
            lambda: _plain_flatness(model, digits, points), close),
        Bar("flatness_vs_floor", 0.85, lambda: _flatness(measured, digits, points),
            lambda: _bare_passes(measured, digits, points), lambda a, b: True),
        *(
            Bar(name, bar, functools.partial(_autoattack, model, digits, points, *how),
                functools.partial(_reference, model, digits, points, *how), lambda a, b: a == b)
            for name, bar, *how in (
                ("autoattack_digits_vs_pyautoattack", 2.0, PROTOCOL.threat_model, PROTOCOL.autoattack),
                ("autoattack_robust_digits_vs_pyautoattack", 2.0, SMALL_BUDGET, PROTOCOL.autoattack),
                ("autoattack_digits_vs_robustbench_default", 3.5, PROTOCOL.threat_model, AutoAttackSettings(32)),
            )
        ),
        Bar("training_vs_plain_loop", 1.0, training.by_recipe, training.by_plain_loop,
            lambda a, b: bool(torch.allclose(torch.tensor(a), torch.tensor(b), rtol=0.01))),
        Bar("queue_overhead", 0.95, lambda: scaling.by_workers(1, 10 * points, 25),
            lambda: scaling.by_evaluate(10 * points, 25), lambda a, b: a == b),
        Bar("two_workers_vs_one", 1.8, lambda: scaling.by_workers(2, 10 * points, 75),
            lambda: scaling.by_workers(1, 10 * points, 75), lambda a, b: a == b),
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


def _autoattack(
    model: nn.Module, digits: Dataset, points: int, budget: ThreatModel, settings: AutoAttackSettings
) -> list[bool]:
    images, labels = digits.examples(Split.TEST, 0, points)
    with observed(model):
        outcomes, _ = first_broken_by(model, images, labels, threat_model=budget, settings=settings)
    return [outcome == "robust" for outcome in outcomes]


def _reference(
    model: nn.Module, digits: Dataset, points: int, budget: ThreatModel, settings: AutoAttackSettings
) -> list[bool]:
    """The package on chunks of the same examples, each as one batch."""
    fresh = copy.deepcopy(model).requires_grad_(True)  # as it comes from a loader
    reference = AutoAttack(fresh, norm=budget.norm.value, eps=budget.epsilon, version="standard", seed=settings.seed)
    reference.verbose = False
    robust: list[bool] = []
    for start in range(0, points, settings.chunk_size):
        images, labels = digits.examples(Split.TEST, start, min(start + settings.chunk_size, points))
        with torch.random.fork_rng():
            _, predictions = reference.run_standard_evaluation(images, labels, batch_size=len(images))
        robust += (predictions == labels).tolist()
    return robust


def main() -> int:
    """Run all comparisons; return 1 when two sides disagree, whatever the speed."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few points, for a first look")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="WORD", help="the ratios whose names hold it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    points = 20 if arguments.quick else 100
    ratios, agreed = [], True
    for bar in (bar for bar in bars(points) if arguments.only in bar.name):
        seconds: dict[str, list[float]] = {"ours": [], "other": []}
        for _ in range(arguments.rounds):
            found = {}
            for side in seconds:
                started = time.perf_counter()
                found[side] = getattr(bar, side)()
                seconds[side].append(time.perf_counter() - started)
            same = bar.agree(found["ours"], found["other"])
            agreed = agreed and same
        each = [other / ours for ours, other in zip(seconds["ours"], seconds["other"], strict=True)]
        ratios.append({
            "name": bar.name, "ratio": round(median(each), 3), "lowest": round(min(each), 3),
            "highest": round(max(each), 3), "bar": bar.bar, "median_s": round(median(seconds["ours"]), 4),
            "points": points, "rounds": arguments.rounds, "same_outcomes": same,
        })  # fmt: skip
        print(f"{bar.name:<36} {median(each):5.2f}  [{min(each):.2f}, {max(each):.2f}]  bar {bar.bar}", flush=True)
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
        "shards_a_second": rates,
        "board": pages,
        "memory": peaks,
    }
    target = ROOT / "var" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written to {target.relative_to(ROOT)}")
    return 0 if agreed else 1


if __name__ == "__main__":
    raise SystemExit(main())
