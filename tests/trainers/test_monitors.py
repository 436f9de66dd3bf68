from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evaluator.attacks.pgd import RestartOutcomes
from evaluator.datasets import Dataset, load_dataset
from evaluator.protocol import PgdSettings
from evaluator.seeding import Noise
from evaluator.types import Split
from tests.trainers.recipes_for_tests import tiny
from trainers import assembly, monitors
from trainers.assembly import Assembly, assemble
from trainers.loop import train
from trainers.recipe import list_recipes


@dataclass
class Watched:
    """A data set that remembers what it was asked for."""

    dataset: Dataset
    asked: list[tuple[Split, int, int]] = field(default_factory=list)

    @property
    def facts(self) -> object:
        return self.dataset.facts

    def examples(self, split: Split, start: int, stop: int) -> tuple[Tensor, Tensor]:
        self.asked.append((split, start, stop))
        return self.dataset.examples(split, start, stop)


def parts(**changes: str) -> Assembly:
    return assemble(tiny("at", **changes), seed=0, device=torch.device("cpu"), data_dir=None)


@pytest.mark.parametrize("name", [recipe.name for recipe in list_recipes() if recipe.family == "digits"])
def test_training_and_monitor_never_see_an_evaluation_example_of_the_test_split(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(load_dataset("digits"))
    monkeypatch.setattr(assembly, "load_dataset", lambda _name, data_dir: watched)
    train(tiny(name.partition("/")[2], epochs="2"), seed=0, folder=tmp_path)
    assert (watched.asked[0], watched.asked[-1]) == ((Split.TRAIN, 0, 40), (Split.TRAIN, 400, 420))
    assert {split for split, _start, _stop in watched.asked} == {Split.TRAIN}


def test_the_monitor_takes_its_examples_from_the_split_it_is_told() -> None:
    for split in Split:
        monitor = parts(monitor__split=split.value).monitor
        assert monitor is not None
        images, labels = load_dataset("digits").examples(split, 400, 420)
        assert torch.equal(monitor.images, images)
        assert torch.equal(monitor.labels, labels)


def test_the_monitor_looks_only_when_it_is_time() -> None:
    monitor = parts(monitor__every="3").monitor
    assert monitor is not None
    model = parts().model
    assert [monitor.look(model, epoch) is not None for epoch in range(1, 7)] == [False, False, True] * 2


def test_looking_twice_gives_the_same_numbers_and_changes_nothing() -> None:
    assembled = parts()
    assert assembled.monitor is not None
    assembled.model.train()
    before = {name: tensor.clone() for name, tensor in assembled.model.state_dict().items()}
    global_state = torch.get_rng_state()
    first, second = (assembled.monitor.look(assembled.model, 2) for _ in range(2))
    assert first == second
    assert assembled.model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in assembled.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), global_state)


def test_the_monitor_reports_error_and_loss_of_a_network_that_always_says_zero() -> None:
    # Logits (1, 0, …, 0) whatever the image: loss −ln(e/(e + 9)) on zeros and −ln(1/(e + 9)) elsewhere.
    class SaysZero(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.nn.functional.one_hot(torch.zeros(len(images), dtype=torch.int64), 10) + 0 * images.sum()

    monitor = parts(monitor__examples__stop="700").monitor  # more than are attacked at once
    assert monitor is not None
    seen = monitor.look(SaysZero(), 2)
    assert seen is not None
    others = (monitor.labels != 0).double().mean().item()
    assert 0 < others < 1
    assert seen.robust_error == pytest.approx(others)
    total = torch.tensor(torch.e + 9).log().item()
    assert seen.robust_loss == pytest.approx(total - (1 - others), rel=1e-5)


def test_of_several_restarts_the_one_with_the_largest_loss_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    # Right with probability 0.34 is a larger loss than wrong with 0.45: the second restart counts for two images alone.
    seen: list[int] = []

    def attack(*tensors: Tensor, noise: list[Noise], settings: PgdSettings, **_others: object) -> RestartOutcomes:
        count = len(tensors[1])
        seen.append(settings.restarts)
        assert len({tuple(source.uniform((3,)).tolist()) for source in noise}) == settings.restarts == 2
        loss = torch.tensor([[1.08, 0.8]]).repeat(count, 1)
        correct = torch.tensor([[True, False]]).repeat(count, 1)
        loss[:2, 1] = 2.0
        return RestartOutcomes(loss, torch.zeros(count, 2), correct)

    monkeypatch.setattr(monitors, "attack", attack)
    assembled = parts(monitor__restarts="2")
    assert assembled.monitor is not None
    watched = assembled.monitor.look(assembled.model, 2)
    assert watched is not None
    assert watched.robust_error == pytest.approx(2 / 20)
    assert watched.robust_loss == pytest.approx((18 * 1.08 + 2 * 2.0) / 20)
    assert seen == [2]


def test_more_restarts_never_find_less() -> None:
    few, many = (parts(monitor__restarts=restarts) for restarts in ("1", "4"))
    assert few.monitor is not None
    assert many.monitor is not None
    once, often = few.monitor.look(few.model, 2), many.monitor.look(many.model, 2)
    assert once is not None
    assert often is not None
    assert often.robust_loss > once.robust_loss


@pytest.mark.parametrize("criterion", ["robust_error", "robust_loss"])
def test_the_criterion_decides_by_what_snapshots_are_compared(criterion: str) -> None:
    assembled = parts(monitor__criterion=criterion)
    assert assembled.monitor is not None
    seen = assembled.monitor.look(assembled.model, 2)
    assert seen is not None
    assert assembled.monitor.value(seen) == getattr(seen, criterion)
