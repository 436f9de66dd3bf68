"""AutoAttack on a ResNet-18, an attack at a time: the package's, ours, and the bare passes that ours take.

A whole run takes 7,800 passes forward and 1,900 backward an image. Here each attack takes a share of its steps, the
same on both sides, and its seconds count as often as the share goes into the whole. What is done once a call (folding,
trials, the package's warnings) is left out on both sides.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any
from unittest import mock

import torch
from pyautoattack import AutoAttack
from torch import Tensor

from evaluator.attacks.answering import answered_by
from evaluator.attacks.autoattack import apgd, fab, square
from evaluator.attacks.autoattack.draws import Draws
from evaluator.attacks.autoattack.folding import folded
from evaluator.attacks.autoattack.passes import Passes
from evaluator.observed import full_float32, observed
from evaluator.results import PassCounts
from evaluator.types import Norm, Split, ThreatModel
from tests.benchmarks import network

BUDGET = ThreatModel(Norm.LINF, 8 / 255)
SEED = 0
STEPS, QUERIES = 6, 40
"""Of APGD and FAB, whose whole runs take 100 towards each of 9 targets and here one; of Square, which takes 5000."""
POINTS = {"cpu": 8, "cuda": 1000}
"""Images that are attacked, all of them classified rightly, on a device of each kind."""
VS_PACKAGE, VS_FLOOR = 1.3, 0.85
GPU_VS_PACKAGE, GPU_VS_FLOOR = 2.0, 0.7
WEIGHTS = {
    "apgd-ce": apgd.STEPS / STEPS,
    "apgd-t": apgd.TARGETS * apgd.STEPS / STEPS,
    "fab-t": fab.TARGETS * fab.STEPS / STEPS,
    "square": square.QUERIES / QUERIES,
}


@dataclass
class Component:
    """What one attack took: seconds of every round, our passes in one, and who withstood on each side."""

    ours: list[float]
    package: list[float]
    floor: list[float]
    passes: PassCounts = field(default_factory=PassCounts)
    withstood: tuple[list[bool], list[bool]] = ([], [])


class Bench:
    """The network, its images, and both implementations with the same few steps."""

    def __init__(self, points: int, device: str) -> None:
        self.device = torch.device(device)
        self.model = network.resnet18().to(self.device)
        images, labels = (tensor.to(self.device) for tensor in network.examples(Split.TEST, 0, min(2 * points, 1000)))
        with torch.no_grad():
            logits = self.model(images)
        right = (logits.argmax(1) == labels).nonzero().squeeze(1)[:points]
        self.points = len(right)
        self.images, self.labels, self.ranking = images[right], labels[right], logits[right].sort(dim=1)[1]
        self.fast = folded(self.model, self.images)
        sides = sorted({square.side(query, *self.images.shape[2:], 1) for query in range(square.QUERIES)})
        self.largest = square.largest_worthwhile(self.fast, self.images, sides)
        self.batch_size = 128 if self.device.type == "cpu" else 512

    def seconds(self, run: Callable[[], Tensor]) -> tuple[float, Tensor]:
        """Return processor seconds, on a GPU seconds, and the images [n, c, h, w] that `run` returns."""
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        self._synchronize()
        started = clock()
        found = run()
        self._synchronize()
        return clock() - started, found

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def withstood(self, adversarial: Tensor) -> list[bool]:
        """Return which of the adversarial images the network still classifies rightly."""
        with torch.no_grad():
            return [bool(right) for right in (self.model(adversarial).argmax(1) == self.labels).tolist()]

    def package(self, name: str) -> Callable[[], Tensor]:
        """Return the package's attack, on the network as a loader leaves it: weights that need gradients."""
        adversary = AutoAttack(
            self.model.requires_grad_(True), norm="Linf", eps=BUDGET.epsilon, seed=SEED, device=str(self.device)
        )
        adversary.apgd.seed = adversary.apgd_targeted.seed = adversary.fab.seed = adversary.square.seed = SEED
        for climbing in (adversary.apgd, adversary.apgd_targeted):
            climbing.n_iter = climbing.n_iter_orig = STEPS
        adversary.apgd.loss, adversary.fab.targeted, adversary.fab.n_iter = "ce", True, STEPS
        adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = 1
        adversary.square.n_queries, whole = QUERIES, adversary.square.p_selection
        adversary.square.p_selection = lambda query: whole(query * square.QUERIES // QUERIES)
        attack: Any = {
            "apgd-ce": adversary.apgd, "apgd-t": adversary.apgd_targeted, "fab-t": adversary.fab,
            "square": adversary.square,
        }[name]  # fmt: skip
        return lambda: attack.perturb(self.images, self.labels)

    def ours(self, name: str, passes: Passes) -> Callable[[], Tensor]:
        """Return our attack."""
        x, y, left = self.images, self.labels, torch.arange(len(self.images), device=self.device)
        draws = Draws(len(left), SEED)
        return {
            "apgd-ce": lambda: apgd.untargeted(passes, x, y, left, BUDGET, draws),
            "apgd-t": lambda: apgd.targeted(
                passes, x, y, left, BUDGET, draws, self.ranking, lambda gradient, numbers: None
            ),
            "fab-t": lambda: fab.targeted(passes, x, y, BUDGET, self.ranking),
            "square": lambda: square.attack(passes, x, y, left, BUDGET, draws, self.fast),
        }[name]


@contextmanager
def fewer_steps(largest: int) -> Iterator[None]:
    """Let our attacks take the few steps; Square's squares shrink as fast as its queries are fewer."""
    whole_side, scale = square.side, square.QUERIES // QUERIES
    with (
        mock.patch.multiple(apgd, STEPS=STEPS, TARGETS=1, _FIRST_PERIOD=1, _LEAST_PERIOD=1, _SHORTER=1),
        mock.patch.multiple(fab, STEPS=STEPS, TARGETS=1),
        mock.patch.multiple(
            square, QUERIES=QUERIES, side=lambda query, *shape, least: whole_side(query * scale, *shape, least=least),
            largest_worthwhile=lambda *_: largest,
        ),
    ):  # fmt: skip
        yield


def measure(points: int, rounds: int, device: str = "cpu") -> dict[str, Component]:
    """Time every attack on both sides, interleaved, with the bare passes between them."""
    bench = Bench(points, device)
    found = {name: Component([], [], []) for name in WEIGHTS}
    for _ in range(rounds):
        for name, component in found.items():
            with torch.random.fork_rng(), full_float32():
                seconds, theirs = bench.seconds(bench.package(name))
            component.package.append(seconds)
            with fewer_steps(bench.largest), full_float32(), observed(bench.model) as counter:
                passes = Passes(bench.model, batch_size=bench.batch_size, tick=lambda: None)
                with answered_by(bench.model, bench.fast.forward):
                    seconds, ours = bench.seconds(bench.ours(name, passes))
                component.passes = counter.passes
            component.ours.append(seconds)
            component.floor.append(_bare(bench, component.passes))
            component.withstood = bench.withstood(ours), bench.withstood(theirs)
    return found


def _bare(bench: Bench, passes: PassCounts) -> float:
    """Return what so many passes take: those of one batch, as often as it goes into them."""

    def forward() -> Tensor:
        with torch.no_grad():
            return bench.fast(bench.images)

    def backward() -> Tensor:
        images = bench.images.clone().requires_grad_()
        return torch.autograd.grad(bench.fast(images).sum(), images)[0]

    with full_float32(), observed(bench.model):
        each = [bench.seconds(run)[0] / len(bench.images) for run in (forward, backward)]
    return (passes.forward - passes.backward) * each[0] + passes.backward * each[1]


def ratios(points: int, rounds: int, device: str = "cpu") -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the two ratios with their bars, and the profile by attack: seconds of a whole run of one image."""
    found = measure(points, rounds, device)
    sides = {
        side: [sum(WEIGHTS[name] * getattr(each, side)[i] for name, each in found.items()) for i in range(rounds)]
        for side in ("ours", "package", "floor")
    }
    outcomes = [each.withstood for each in found.values()]
    same = all(ours == package for ours, package in outcomes)
    withstood = sum(all(name[0][i] for name in outcomes) for i in range(points))
    gpu = "gpu" if torch.device(device).type == "cuda" else "resnet18"
    bars = (
        (f"autoattack_{gpu}_vs_pyautoattack", "package", VS_PACKAGE if gpu == "resnet18" else GPU_VS_PACKAGE),
        (f"autoattack_{gpu}_vs_floor", "floor", VS_FLOOR if gpu == "resnet18" else GPU_VS_FLOOR),
    )
    rows = []
    for name, side, bar in bars:
        each = [other / ours for ours, other in zip(sides["ours"], sides[side], strict=True)]
        rows.append({
            "name": name, "ratio": round(median(each), 3), "lowest": round(min(each), 3),
            "highest": round(max(each), 3), "bar": bar, "median_s": round(median(sides["ours"]), 4), "points": points,
            "rounds": rounds, "same_outcomes": same, "withstood": withstood,
        })  # fmt: skip
    profile = {
        name: {side: round(WEIGHTS[name] * median(getattr(each, side)) / points, 2) for side in sides}
        | {"forward": each.passes.forward, "backward": each.passes.backward, "withstood": sum(each.withstood[0])}
        for name, each in found.items()
    }
    return rows, profile
