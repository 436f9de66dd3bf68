import json
import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from evaluator.checkpoints import load_model, open_checkpoint
from evaluator.exceptions import InvalidRequest
from tests.benchmarks import training
from tests.trainers.recipes_for_tests import tiny
from trainers import loop
from trainers.after_step import AFTER_STEP
from trainers.assembly import OPTIMIZERS, assemble
from trainers.loop import EpochRecord, TrainedVariant, train
from trainers.objectives import OBJECTIVES
from trainers.recipe import Recipe, list_recipes, load_recipe, override
from trainers.sources import SOURCES
from trainers.steppers import STEPPERS

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
        "awp",
        objective='{"kind": "self-supervision", "weight": 2, "of": {"kind": "trades", "beta": 6}}',
        after_step='[{"kind": "clipping", "maximum": 0.2}, {"kind": "averaging", "decay": 0.9}]',
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


KINDS = {
    "stepper": {
        "sgd": {},
        "awp": {"gamma": 0.01},
        "entropy-sgd": {"steps": 2, "step_size": 0.1, "noise": 0.01, "gamma": 0.1, "averaging": 0.75},
    },
    "after_step": {"averaging": {"decay": 0.9}, "clipping": {"maximum": 0.2}},
    "optimizer": {"sgd": {"learning_rate": 0.1, "momentum": 0.9}, "adam": {"learning_rate": 0.01}},
    "source": {
        "labelled": {"batch_size": 16, "examples": {"start": 0, "stop": 40}, "label_noise": 0.3},
        "unlabeled": {
            "batch_size": 16,
            "examples": {"start": 0, "stop": 40},
            "unlabeled": {"kind": "withheld", "examples": {"start": 40, "stop": 70}},
            "fraction": 0.4,
        },
    },
    "objective": {
        "cross-entropy": {},
        "trades": {"beta": 6},
        "mart": {"weight": 5},
        "self-supervision": {"weight": 4},
    },
}
"""Settings of every kind of part that may remember something from step to step."""

REGISTRIES = {
    "stepper": STEPPERS,
    "after_step": AFTER_STEP,
    "optimizer": OPTIMIZERS,
    "source": SOURCES,
    "objective": OBJECTIVES,
}


def killed_in(recipe: Recipe, folder: Path, fatal: int, threads: int) -> None:
    """Train, and die without a word after a number of forward passes: in the middle of a step, maybe of an attack."""
    torch.set_num_threads(threads)

    def forward(_module: Any, _inputs: Any) -> None:
        nonlocal fatal
        fatal -= 1
        if fatal == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    nn.modules.module.register_module_forward_pre_hook(forward)
    train(recipe, seed=3, folder=folder, save_every=1)


@pytest.fixture(scope="module")
def server() -> Any:
    """Return a way to start processes that have torch already, without what this one's threads hold."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "sklearn.datasets"])
    return context


@pytest.mark.parametrize(("part", "kind"), [(part, kind) for part, kinds in REGISTRIES.items() for kind in kinds])
def test_a_training_killed_at_any_step_ends_bit_for_bit_like_an_undisturbed_one(
    part: str, kind: str, server: Any, tmp_path: Path
) -> None:
    settings = {"kind": kind} | KINDS[part][kind]
    recipe = tiny("at", **{part: json.dumps([settings] if part == "after_step" else settings)})
    passes = 0

    def count(_module: Any, _inputs: Any) -> None:
        nonlocal passes
        passes += 1

    hook = nn.modules.module.register_module_forward_pre_hook(count)
    straight = train(recipe, seed=3, folder=tmp_path / "straight")
    hook.remove()
    fatal = random.randrange(1, passes)
    process = server.Process(target=killed_in, args=(recipe, tmp_path / "killed", fatal, torch.get_num_threads()))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "final.safetensors").exists()
    resumed = train(recipe, seed=3, folder=tmp_path / "killed", save_every=1)
    assert_same_training(straight, resumed)  # if this fails, `fatal` above says where it was killed


def test_snapshots_on_the_way_are_kept_and_written_again_with_the_same_bytes(tmp_path: Path) -> None:
    recipe = tiny("weight-averaging", epochs="7", snapshot_every="3", monitor="null")
    straight = train(recipe, seed=1, folder=tmp_path / "straight")
    folder = tmp_path / "straight" / "snapshots"
    assert straight.snapshots == (folder / "epoch-0003.safetensors", folder / "epoch-0006.safetensors")
    assert sorted(folder.iterdir()) == list(straight.snapshots)
    assert [open_checkpoint(path).manifest.notes["epoch"] for path in straight.snapshots] == ["3 of 7", "6 of 7"]
    with pytest.raises(Interrupted):
        train(recipe, seed=1, folder=tmp_path / "broken", progress=interrupt_after(4), save_every=2)
    resumed = train(recipe, seed=1, folder=tmp_path / "broken", save_every=2)
    for ours, theirs in zip(straight.snapshots, resumed.snapshots, strict=True):
        assert ours.read_bytes() == theirs.read_bytes()
    first, last = load_file(straight.snapshots[0]), load_file(straight.final)
    assert any(not torch.equal(tensor, last[name]) for name, tensor in first.items())


def test_the_last_epoch_and_recipes_without_snapshots_leave_none(tmp_path: Path) -> None:
    even = train(tiny("at", snapshot_every="2", monitor="null"), seed=0, folder=tmp_path / "even")
    assert [path.name for path in even.snapshots] == ["epoch-0002.safetensors"]
    assert train(RECIPES["sgd"], seed=0, folder=tmp_path / "none").snapshots == ()
    assert not (tmp_path / "none" / "snapshots").exists()


def test_two_trainings_in_one_folder_at_once_are_refused(tmp_path: Path) -> None:
    def another(record: EpochRecord) -> None:
        if record.epoch == record.epochs:
            return  # all is written, and nobody needs to train any more
        with pytest.raises(InvalidRequest, match=r"another process trains in .*; wait until it has ended, or name"):
            train(RECIPES["sgd"], seed=0, folder=tmp_path)
        refused.append(True)

    refused: list[bool] = []
    train(RECIPES["sgd"], seed=0, folder=tmp_path, progress=another)
    assert len(refused) == 3


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def foreign(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path)


def of_another_version(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, metadata=metadata | {"format": "1"})


def of_other_parts(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({key: tensor for key, tensor in load_file(path).items() if "generators" not in key}, path, metadata)


@pytest.mark.parametrize("harm", [torn, foreign, of_another_version, of_other_parts])
def test_a_state_that_cannot_be_gone_on_from_is_refused_in_one_sentence(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(RECIPES["sgd"], seed=0, folder=tmp_path, save_every=1, progress=interrupt_after(2))
    harm(tmp_path / "state.safetensors")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InvalidRequest, match=r"is not a state that this version can go on from .*; train in another"):
        train(RECIPES["sgd"], seed=0, folder=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_log_shorter_than_the_state_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(RECIPES["sgd"], seed=0, folder=tmp_path, save_every=1, progress=interrupt_after(2))
    (tmp_path / "log.jsonl").unlink()
    with pytest.raises(InvalidRequest, match=r"log.jsonl is shorter than when state.safetensors was saved"):
        train(RECIPES["sgd"], seed=0, folder=tmp_path)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_bfloat16_is_near_float32_and_leaves_float32_weights(objective: str, tmp_path: Path) -> None:
    settings = {"objective": json.dumps({"kind": objective} | KINDS["objective"][objective]), "epochs": "1"}
    settings["source__examples__stop"] = "16"  # one step, before which both have the same weights
    exact, rounded = (
        train(tiny("at", **settings, monitor="null", precision=precision), seed=0, folder=tmp_path / precision)
        for precision in ("float32", "bfloat16")
    )
    losses = [lines(variant)[0]["loss"] for variant in (exact, rounded)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] != losses[1]
    assert all(tensor.dtype != torch.bfloat16 for tensor in load_file(tmp_path / "bfloat16/state.safetensors").values())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's tracer looks there
def test_a_compiled_network_is_trained_as_an_uncompiled_one_and_traced_once_a_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backend(graph: Any, _inputs: object) -> Any:
        traced.append(graph)
        return graph

    traced: list[object] = []
    generating = torch.compile  # code takes minutes, and is torch's business
    monkeypatch.setattr(torch, "compile", lambda function: generating(function, backend=backend))
    settings = {"epochs": "2", "source__examples__stop": "36", "source__batch_size": "20"}  # batches of 20 and 16
    plain, compiled = (
        train(tiny("trades", **settings, compile=choice), seed=0, folder=tmp_path / choice)
        for choice in ("false", "true")
    )
    assert [line["loss"] for line in lines(compiled)] == pytest.approx([line["loss"] for line in lines(plain)])
    # Whether it compiles; loss, attack, and without gradients.
    assert len(traced) == 1 + 2 + 1


def test_an_objective_that_looks_into_the_network_is_not_compiled(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"self-supervision looks into the network, .*; set compile=false"):
        train(tiny("self-supervision", compile="true"), seed=0, folder=tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_without_a_compiler_the_network_is_trained_uncompiled_and_this_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compiler(_function: object) -> Any:
        raise RuntimeError("no C++ compiler\nand a long trace")

    monkeypatch.setattr(torch, "compile", compiler)
    plain, uncompiled = (
        train(tiny("at", epochs="1", compile=choice), seed=0, folder=tmp_path / choice) for choice in ("false", "true")
    )
    assert caplog.messages == ["torch cannot compile for cpu here (no C++ compiler); the network is trained uncompiled"]
    assert lines(plain) == lines(uncompiled)


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


def test_the_losses_are_those_of_the_loop_that_anybody_would_write() -> None:
    assert training.by_recipe() == pytest.approx(training.by_plain_loop(torch.channels_last), abs=1e-5)


def test_no_global_generator_is_touched(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train(RECIPES["noisy trades"], seed=0, folder=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_best_snapshot_is_the_first_epoch_with_the_lowest_watched_value(tmp_path: Path) -> None:
    recipe = tiny("at-early-stopped", epochs="6", monitor__every="1")
    variant = train(recipe, seed=0, folder=tmp_path)
    assert variant.best is not None
    assert recipe.monitor is not None
    watched = [line["held_out"][recipe.monitor.criterion] for line in lines(variant)]
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


def test_trades_awp_averaging_rotation_clipping_and_augmentation_train_together(tmp_path: Path) -> None:
    recipe = tiny(
        "trades",
        epochs="2",
        objective='{"kind": "self-supervision", "weight": 4, "of": {"kind": "trades", "beta": 6}}',
        source=json.dumps(load_recipe("digits/augmentation").source.model_dump()),
        source__examples__stop="40",
        stepper='{"kind": "awp", "gamma": 0.01}',
        after_step='[{"kind": "clipping", "maximum": 0.1}, {"kind": "averaging", "decay": 0.9}]',
    )
    variant = train(recipe, seed=0, folder=tmp_path)
    state, average = load_file(tmp_path / "state.safetensors"), load_file(variant.final)
    classifier = next(name for name in reversed(average) if average[name].shape == (10, 32))
    assert state[f"model:{classifier}"].abs().max() <= 0.1
    assert average[classifier].abs().max() <= 0.1
    assert not torch.equal(state[f"model:{classifier}"], average[classifier])
    assert not torch.equal(
        state["head:weight"], assemble(recipe, seed=0, device=torch.device("cpu"), data_dir=None).loss.head.weight
    )
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
