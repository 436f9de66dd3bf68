"""Networks and budgets that AutoAttack's two implementations are compared on, with fewer steps of FAB and Square."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from evaluator.architectures import build, parse_options
from evaluator.attacks.autoattack import Implementation, fab, first_broken_by, square
from evaluator.dataset_facts import find_dataset_facts
from evaluator.datasets import load_dataset
from evaluator.observed import observed
from evaluator.protocol import AutoAttackSettings
from evaluator.results import PassCounts
from evaluator.types import Norm, Split, ThreatModel
from tests.evaluator.models import small_cnn


class Masked(nn.Module):
    """Its gradients are zero, its decisions are not robust: only Square finds that out."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(torch.round(images.detach() * 8) / 8) + 0 * images.flatten(1).sum(1, keepdim=True)


class Colour(nn.Module):
    """A smooth random network of 12 classes for colour images of 9 × 9 pixels."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.features = nn.Conv2d(3, 6, 3, stride=2)
            self.logits = nn.Linear(6 * 4 * 4, 12)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(torch.tanh(self.features(images)).flatten(1))


def larger() -> nn.Module:
    """Return a random residual network for colour images of 32 × 32 pixels, in which small squares change little."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        options = parse_options("digits-resnet", {"width": 4})
        model = build("digits-resnet", options, find_dataset_facts("cifar10"))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(0.5)
    return model.eval()


@dataclass(frozen=True)
class Case:
    """What is attacked, and how."""

    name: str
    epsilon: float
    norm: Norm = Norm.LINF
    examples: int = 12
    chunk_size: int = 5
    seed: int = 0

    @property
    def threat_model(self) -> ThreatModel:
        return ThreatModel(self.norm, self.epsilon)

    @property
    def settings(self) -> AutoAttackSettings:
        return AutoAttackSettings(self.chunk_size, self.seed)

    def load(self) -> tuple[nn.Module, Tensor, Tensor]:
        if self.name in ("colour", "larger"):
            model, size = (Colour().eval(), 9) if self.name == "colour" else (larger(), 32)
            model = model.to(memory_format=torch.channels_last)  # as networks are measured
            images = torch.rand(self.examples, 3, size, size, generator=torch.Generator().manual_seed(0))
            return model, images, model(images).argmax(1)
        model = trained()
        return (
            Masked(model) if self.name == "masked" else model,
            *load_dataset("digits").examples(Split.TEST, 0, self.examples),
        )


FAB_STEPS, SQUARES = 15, 600
"""Enough for squares of all sizes that 8 × 8 pixels hold; a full run of the reference takes tens of seconds."""

CASES = (
    Case("digits", 0.05, examples=16, chunk_size=9),
    Case("digits", 0.3, Norm.L2, examples=10, chunk_size=6, seed=3),
    Case("masked", 0.2, examples=5, chunk_size=3),
    Case("colour", 0.01, examples=6, chunk_size=6, seed=1),
    Case("colour", 0.08, Norm.L2, examples=5, chunk_size=5),
)


LARGER = Case("larger", 0.02, examples=5, chunk_size=3)
"""Its squares are asked about as windows, which takes long with so small a network: not among the others."""


@contextmanager
def shortened() -> Iterator[None]:
    """Let both implementations take FAB_STEPS and SQUARES."""
    whole = AutoAttack._set_version

    def set_version(adversary: AutoAttack, version: str) -> None:
        whole(adversary, version)
        adversary.fab.n_iter, adversary.square.n_queries = FAB_STEPS, SQUARES

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AutoAttack, "_set_version", set_version)
        patch.setattr(fab, "STEPS", FAB_STEPS)
        patch.setattr(square, "QUERIES", SQUARES)
        yield


@functools.cache
def trained() -> nn.Module:
    return small_cnn()


def attacked(case: Case, **changes: object) -> tuple[list[str], tuple[str, ...], PassCounts]:
    """Return outcomes, warnings and passes."""
    model, images, labels = case.load()
    with observed(model) as counter, shortened():
        arguments = {"threat_model": case.threat_model, "settings": case.settings} | changes
        outcomes, warnings = first_broken_by(model, images, labels, **arguments)
    return outcomes, warnings, counter.passes


@functools.cache
def by_reference(case: Case) -> tuple[list[str], tuple[str, ...], PassCounts]:
    """Return the same from the package; once a session, because it is slow."""
    return attacked(case, implementation=Implementation.REFERENCE)
