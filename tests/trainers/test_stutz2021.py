"""The paper's family on a handful of images in CIFAR-10's own files: every recipe builds, steps and is watched."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluator.checkpoint_file import open_checkpoint
from evaluator.datasets import load_dataset
from evaluator.exceptions import DatasetMissing
from tests.evaluator.test_datasets import write_cifar
from trainers.assembly import assemble
from trainers.loop import train
from trainers.recipe import Recipe, list_recipes, load_recipe, override
from trainers.schedules import factor
from trainers.settings import ClippingSettings

RECIPES = list_recipes("stutz2021")
TABLE_1 = Path(__file__).resolve().parents[2] / "fixtures" / "table1.csv"
HANDFUL = {
    "source.examples.stop": "8",
    "source.batch_size": "4",
    "monitor.examples": '{"start": 0, "stop": 3}',
    "monitor.attack.steps": "1",
    "monitor.restarts": "2",
}


def narrow(recipe: Recipe, **changes: str) -> Recipe:
    attack = {"attack.steps": "1"} if recipe.attack.kind == "pgd" else {}
    inner = {"stepper.steps": "2"} if recipe.name == "stutz2021/entropy-sgd-5" else {}
    return override(recipe, HANDFUL | attack | inner | changes)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen train and three test images where CIFAR-10 is looked for, and ten pseudo-labelled ones."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "unlabeled.npz", image=images, label=np.arange(10))
    with pytest.MonkeyPatch.context() as patch:
        write_cifar(folder, patch, "CIFAR10", "labels")
        load_dataset("cifar10", data_dir=folder)  # which keeps it, so that the lists of files may go back
    return folder


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_takes_a_step_that_moves_all_but_the_whitening_and_is_watched(
    recipe: Recipe, data_dir: Path
) -> None:
    parts = assemble(narrow(recipe), seed=0, device=torch.device("cpu"), data_dir=data_dir)
    before = {name: parameter.detach().clone() for name, parameter in parts.model.named_parameters()}
    parts.model.train()
    assert parts.step().isfinite()
    moved = {name for name, parameter in parts.model.named_parameters() if not torch.equal(parameter, before[name])}
    assert before.keys() - moved == {"0.weight", "0.bias"}
    for clipping in (settings for settings in recipe.after_step if isinstance(settings, ClippingSettings)):
        trained = [parameter for parameter in parts.model.parameters() if parameter.requires_grad]
        assert max(parameter.abs().max() for parameter in trained) <= clipping.maximum
    assert parts.monitor is not None
    seen = parts.monitor.look(parts.outcome, recipe.monitor.every if recipe.monitor else 1)
    assert seen is not None
    assert round(seen.robust_error * 3, 6) in {0, 1, 2, 3}
    assert seen.robust_loss > 0


def test_a_training_ends_in_a_checkpoint_of_the_papers_network(data_dir: Path, tmp_path: Path) -> None:
    recipe = narrow(load_recipe("stutz2021/at"), epochs="1")
    manifest = open_checkpoint(train(recipe, seed=0, folder=tmp_path, data_dir=data_dir).checkpoint).manifest
    assert (manifest.dataset, manifest.architecture) == ("cifar10", "resnet18-stutz2021")
    assert manifest.recipe == recipe.name


def test_the_rows_are_the_methods_of_table_1_in_its_order() -> None:
    with TABLE_1.open(newline="", encoding="utf-8") as file:
        methods = {int(line["row"]): line["method"] for line in csv.DictReader(file)}
    assert {recipe.row: recipe.title for recipe in RECIPES if recipe.row} == methods


@pytest.mark.parametrize(
    ("variant", "rates"),
    [
        ("at", {0: 0.05, 59: 0.05, 60: 0.005, 89: 0.005, 90: 0.0005, 119: 0.0005, 120: 0.00005, 149: 0.00005}),
        ("late-multi-step", {0: 0.05, 139: 0.05, 140: 0.005, 144: 0.005, 145: 0.0005, 149: 0.0005}),
        ("cyclic", {0: 0, 15: 0.2, 30: 0, 45: 0.2}),
        ("cyclic-once", {0: 0, 15: 0.2}),
    ],
)
def test_rates_change_where_the_paper_says(variant: str, rates: dict[int, float]) -> None:
    recipe = load_recipe(f"stutz2021/{variant}")
    steps = -(-50_000 // 128)
    for epoch, rate in rates.items():
        progress = epoch * steps / (recipe.epochs * steps)
        assert recipe.optimizer.learning_rate * factor(recipe.schedule, progress) == pytest.approx(rate), epoch


def test_the_monitor_attacks_the_last_500_test_images_five_times_within_the_base_budget() -> None:
    for recipe in RECIPES:
        monitor = recipe.monitor
        assert monitor is not None
        assert (monitor.split, monitor.examples.start, monitor.examples.stop) == ("test", 9_500, 10_000)
        assert (monitor.restarts, monitor.criterion, monitor.attack.steps) == (5, "robust_error", 7)
        budget = ("L2", 0.5) if recipe.name == "stutz2021/l2" else ("Linf", 0.0314)
        assert (monitor.attack.norm, monitor.attack.epsilon) == budget


def test_entropy_sgd_passes_over_the_data_as_often_as_the_base() -> None:
    for recipe in RECIPES:
        if recipe.stepper.kind == "entropy-sgd":
            assert recipe.epochs * recipe.stepper.steps == 150
            assert recipe.monitor is not None
            assert recipe.monitor.every <= recipe.epochs


def test_without_the_file_of_unlabeled_images_the_sentence_names_it(data_dir: Path, tmp_path: Path) -> None:
    elsewhere = narrow(load_recipe("stutz2021/unlabeled"), **{"source.unlabeled.name": "absent.npz"})
    with pytest.raises(DatasetMissing, match=r"absent\.npz is not there"):
        assemble(elsewhere, seed=0, device=torch.device("cpu"), data_dir=data_dir)
