import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evaluator.checkpoints import load_model, open_checkpoint
from evaluator.exceptions import InvalidRequest
from tests.trainers.recipes_for_tests import tiny
from trainers import loop
from trainers.assembly import assemble
from trainers.loop import EpochRecord, TrainedVariant, train
from trainers.recipe import Recipe, list_recipes, load_recipe, override

ROOT = Path(__file__).resolve().parents[2]

RECIPES = {
    "sgd": tiny("at"),
    "awp": tiny("awp"),
    "averaging": tiny("weight-averaging"),
    "noisy trades": tiny("trades", source__label_noise="0.3"),
    "entropy-sgd": tiny("entropy-sgd", stepper__noise="0.01"),
    "self-supervision": tiny("self-supervision"),
    "augmentation": tiny("augmentation"),
    "mart": tiny("mart"),
    "adam": tiny("at", optimizer='{"kind": "adam", "learning_rate": 0.01}'),
    "all at once": tiny(
        "awp", after_step='[{"kind": "clipping", "maximum": 0.2}, {"kind": "averaging", "decay": 0.9}]'
    ),
}


class Interrupted(Exception):
    """What a test raises in the middle of a training."""


def interrupt_after(epoch: int) -> Any:
    def progress(record: EpochRecord) -> None:
        if record.epoch == epoch:
            raise Interrupted

    return progress


def weights(variant: TrainedVariant) -> list[dict[str, torch.Tensor]]:
    assert variant.best is not None
    return [load_file(variant.final), load_file(variant.best)]


def lines(variant: TrainedVariant) -> list[dict[str, Any]]:
    return [json.loads(line) | {"seconds": None} for line in variant.log.read_text().splitlines()]


def assert_same_training(one: TrainedVariant, other: TrainedVariant) -> None:
    for ours, theirs in zip(weights(one), weights(other), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert lines(one) == lines(other)
    assert [line["epoch"] for line in lines(one)] == [1, 2, 3, 4]


@pytest.mark.parametrize(("name", "save_every"), [*((name, 2) for name in RECIPES), ("sgd", 9)])
def test_an_interrupted_training_ends_bit_for_bit_like_an_uninterrupted_one(
    name: str, save_every: int, tmp_path: Path
) -> None:
    recipe = RECIPES[name]
    straight = train(recipe, seed=3, folder=tmp_path / "straight")
    with pytest.raises(Interrupted):
        train(recipe, seed=3, folder=tmp_path / "broken", save_every=save_every, progress=interrupt_after(3))
    resumed = train(recipe, seed=3, folder=tmp_path / "broken", save_every=save_every)
    assert_same_training(straight, resumed)


def test_a_killed_process_is_continued_bit_for_bit(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from tests.trainers.test_loop import RECIPES
from trainers.loop import train
def kill(record):
    if record.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)
train(RECIPES["all at once"], seed=3, folder=Path(sys.argv[1]), save_every=2, progress=kill)
"""
    folder = tmp_path / "killed"
    killed = subprocess.run([sys.executable, "-c", script, folder], env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert killed.returncode == -signal.SIGKILL
    assert not (folder / "final.safetensors").exists()
    resumed = train(RECIPES["all at once"], seed=3, folder=folder, save_every=2)
    assert_same_training(train(RECIPES["all at once"], seed=3, folder=tmp_path / "straight"), resumed)


def test_a_finished_training_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(RECIPES["sgd"], seed=0, folder=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(loop, "assemble", lambda *_args, **_kwargs: pytest.fail("trained again"))
    assert train(RECIPES["sgd"], seed=0, folder=tmp_path) == first
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_seeds_differ_and_one_seed_repeats_itself(tmp_path: Path) -> None:
    one, again, other = (
        load_file(train(tiny("at", epochs="1"), seed=seed, folder=tmp_path / folder).final)
        for folder, seed in (("one", 1), ("again", 1), ("other", 2))
    )
    assert all(torch.equal(tensor, again[name]) for name, tensor in one.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_no_global_generator_is_touched(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train(RECIPES["noisy trades"], seed=0, folder=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_best_snapshot_is_the_first_epoch_with_the_lowest_watched_value(tmp_path: Path) -> None:
    recipe = tiny("at-early-stopped", epochs="6", monitor__every="1")
    variant = train(recipe, seed=0, folder=tmp_path)
    watched = [line["held_out"]["robust_loss"] for line in lines(variant)]
    assert variant.best is not None
    epoch = open_checkpoint(variant.best).manifest.notes["epoch"]
    assert epoch == f"{watched.index(min(watched)) + 1} of 6"
    assert variant.checkpoint == variant.best


def test_the_final_snapshot_is_the_variant_unless_the_recipe_says_best(tmp_path: Path) -> None:
    unwatched = override(RECIPES["sgd"], {"epochs": "1", "monitor": "null"})
    variant = train(unwatched, seed=0, folder=tmp_path)
    assert variant.best is None
    assert variant.checkpoint == variant.final


def test_recipes_that_differ_in_their_snapshot_share_one_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = train(tiny("at"), seed=0, folder=tmp_path)
    monkeypatch.setattr(loop, "assemble", lambda *_args, **_kwargs: pytest.fail("trained again"))
    stopped = train(tiny("at-early-stopped"), seed=0, folder=tmp_path)
    assert (final.checkpoint, stopped.checkpoint) == (stopped.final, final.best)


def test_trades_awp_averaging_clipping_and_augmentation_train_together(tmp_path: Path) -> None:
    recipe = tiny(
        "trades",
        epochs="2",
        source=json.dumps(load_recipe("digits/augmentation").source.model_dump()),
        source__examples__stop="40",
        stepper='{"kind": "awp", "gamma": 0.01}',
        after_step='[{"kind": "clipping", "maximum": 0.1}, {"kind": "averaging", "decay": 0.9}]',
    )
    variant = train(recipe, seed=0, folder=tmp_path)
    state, average = load_file(tmp_path / "state.safetensors"), load_file(variant.final)
    classifier = next(name for name in reversed(average) if average[name].shape == (10, 16))
    assert state[f"model:{classifier}"].abs().max() <= 0.1
    assert average[classifier].abs().max() <= 0.1
    assert not torch.equal(state[f"model:{classifier}"], average[classifier])
    assert all(tensor.isfinite().all() for tensor in average.values())


@pytest.mark.parametrize("recipe", list_recipes("digits"), ids=lambda recipe: recipe.name)
def test_the_first_step_of_every_recipe_has_a_finite_loss_and_moves_every_parameter(recipe: Recipe) -> None:
    parts = assemble(recipe, seed=0, device=torch.device("cpu"), data_dir=None)
    before = {name: parameter.detach().clone() for name, parameter in parts.model.named_parameters()}
    parts.model.train()
    assert parts.step().isfinite()
    assert [name for name, parameter in parts.model.named_parameters() if torch.equal(parameter, before[name])] == []


def test_the_rotation_head_is_trained_beside_the_network_and_not_in_its_checkpoint(tmp_path: Path) -> None:
    plain = load_file(train(RECIPES["sgd"], seed=0, folder=tmp_path / "plain").final)
    recipe = RECIPES["self-supervision"]
    variant = train(recipe, seed=0, folder=tmp_path / "turned")
    state = load_file(variant.log.with_name("state.safetensors"))
    assert load_file(variant.final).keys() == plain.keys()
    untrained = assemble(recipe, seed=0, device=torch.device("cpu"), data_dir=None).stateful["head"]
    assert not torch.equal(state["head:weight"], untrained.state_dict()["weight"])


def test_under_averaging_the_outcome_is_the_average_and_not_the_last_weights(tmp_path: Path) -> None:
    plain = load_file(train(RECIPES["sgd"], seed=0, folder=tmp_path / "plain").final)
    averaged = load_file(train(RECIPES["averaging"], seed=0, folder=tmp_path / "averaged").final)
    for name, tensor in plain.items():
        same = torch.equal(tensor, averaged[name])
        assert same if "running" in name or "tracked" in name or name.endswith(("mean", "std")) else not same, name


def test_a_checkpoint_says_where_it_comes_from_and_can_be_loaded(tmp_path: Path) -> None:
    recipe = RECIPES["awp"]
    checkpoint = open_checkpoint(train(recipe, seed=5, folder=tmp_path).checkpoint)
    manifest = checkpoint.manifest
    assert (manifest.recipe, manifest.dataset, manifest.architecture) == (recipe.name, "digits", "digits-resnet")
    assert manifest.notes["recipe_digest"] == recipe.digest
    assert (manifest.notes["seed"], manifest.notes["epoch"]) == ("5", "4 of 4")
    assert manifest.notes["torch"] == torch.__version__
    assert not load_model(checkpoint).training


def test_the_log_follows_the_schedule(tmp_path: Path) -> None:
    variant = train(tiny("at", schedule__milestones="[0.5, 0.75]"), seed=0, folder=tmp_path)
    assert [line["learning_rate"] for line in lines(variant)] == pytest.approx([0.1, 0.1, 0.01, 0.001])
    assert [line["held_out"] is not None for line in lines(variant)] == [False, True, False, True]


@pytest.mark.parametrize(("recipe", "seed"), [(RECIPES["awp"], 0), (RECIPES["sgd"], 1)])
def test_a_folder_of_another_training_is_refused(recipe: Recipe, seed: int, tmp_path: Path) -> None:
    train(RECIPES["sgd"], seed=0, folder=tmp_path)
    with pytest.raises(InvalidRequest, match=r"and seed 0, but digits/.* was asked for; give it a folder of its own"):
        train(recipe, seed=seed, folder=tmp_path)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=f"got {seed}"):
        train(RECIPES["sgd"], seed=seed, folder=tmp_path)


def test_a_diverging_training_stops_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"loss of .* is nan in epoch 1; a smaller optimizer.learning_rate"):
        train(tiny("clean", optimizer__learning_rate="1e30"), seed=0, folder=tmp_path)


def test_examples_beyond_the_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="797"):
        train(override(load_recipe("digits/at"), {"monitor.examples.stop": "798"}), seed=0, folder=tmp_path)
