"""A checkpoint as training code leaves it becomes the file that is handed in, or a sentence says what does not fit."""

import importlib.util
import runpy
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from evaluator import evaluate, pack_cli
from evaluator.architectures import build, parse_options
from evaluator.checkpoints import load_model
from evaluator.dataset_facts import DATASET_FACTS
from evaluator.datasets import load_dataset
from evaluator.exceptions import InvalidCheckpoint, InvalidRequest
from evaluator.manifest import Manifest
from evaluator.packing import Normalization, pack
from evaluator.protocol import Examples
from evaluator.shipped import CIFAR10_LINF
from leaderboard.management.commands.pack import Command
from tests.evaluator.test_datasets import write_cifar

MANIFEST = Manifest("digits-cnn", "digits", {"width": 4})
PIXELS = Normalization((0.0,), (1.0,))
RESNET18 = Path(importlib.util.find_spec("pyautoattack").origin).parent / "examples" / "model_test.pt"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """A digits-cnn's state without its normalisation, as code that normalises nowhere has it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build("digits-cnn", parse_options("digits-cnn", {"width": 4}), DATASET_FACTS["digits"])
    return OrderedDict((name, tensor) for name, tensor in network.state_dict().items() if not name.startswith("0."))


def packed(value, folder, manifest=MANIFEST, **options):
    options.setdefault("normalization", PIXELS)
    torch.save(value, folder / "trained.pt")
    return pack(folder / "trained.pt", manifest, folder / "packed.safetensors", **options)


def renamed(weights, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (lambda w: w, ""),
        (lambda w: {name: nn.Parameter(t) if t.is_floating_point() else t for name, t in w.items()}, ""),
        (lambda w: renamed(w, "module."), "module."),
        (lambda w: renamed(w, "module._orig_mod."), "module._orig_mod."),
        (lambda w: {"state_dict": renamed(w, "model."), "epoch": 90, "best": 0.5}, "state_dict.model."),
        (lambda w: {"net": w, "optimizer": {"state": {0: {"m": torch.ones(3)}}, "groups": [{"lr": 0.1}]}}, "net."),
        (lambda w: {"module": {"ema": w}, "step": torch.tensor(3)}, "module.ema."),
    ],
)
def test_weights_are_found_under_any_keys_and_prefixes(weights, tmp_path, wrap, prefix):
    result = packed(wrap(weights), tmp_path)
    assert result.prefix == prefix
    loaded = load_model(result.checkpoint).state_dict()
    assert loaded.keys() == {"0.mean", "0.std", *weights}
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def test_what_lies_beside_the_network_is_left_out_and_named(weights, tmp_path):
    assert packed({"net": weights, "momentum": torch.ones(3)}, tmp_path).ignored == ("momentum",)


def test_half_precision_becomes_float32(weights, tmp_path):
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    loaded = load_model(packed(half, tmp_path).checkpoint)
    assert loaded.get_parameter("1.weight").dtype is torch.float32
    assert torch.equal(loaded.get_parameter("1.weight"), half["1.weight"].float())


def test_counters_that_old_files_lack_are_set_to_zero(weights, tmp_path):
    old = {name: tensor for name, tensor in weights.items() if "num_batches" not in name}
    assert load_model(packed(old, tmp_path).checkpoint).state_dict()["2.num_batches_tracked"] == 0


def test_given_normalization_is_written_and_one_in_the_file_is_kept(weights, tmp_path):
    first = packed(weights, tmp_path, normalization=Normalization((0.25,), (0.5,))).checkpoint
    assert load_model(first).get_buffer("0.std").item() == 0.5
    again = pack(first.path, MANIFEST, tmp_path / "again.safetensors")
    assert again.checkpoint.sha256 == first.sha256


def test_a_network_that_ours_normalises_for_is_found_without_its_place_in_ours(tmp_path):
    manifest = Manifest("torchvision", "digits", {"network": "mobilenet_v2"})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build("torchvision", parse_options("torchvision", manifest.options), DATASET_FACTS["digits"])
    result = packed(network[2].state_dict(), tmp_path, manifest)
    loaded = load_model(result.checkpoint)
    assert torch.equal(loaded[2].features[0][0].weight, network[2].features[0][0].weight)
    assert pack(result.checkpoint.path, manifest, tmp_path / "again").checkpoint.sha256 == result.checkpoint.sha256


def test_of_two_networks_one_must_be_named(weights, tmp_path):
    averaged = {name: tensor * 1 for name, tensor in weights.items()} | {"9.bias": torch.ones(10)}
    both = {"model": weights, "ema": averaged}
    with pytest.raises(InvalidRequest, match=r"holds 2 networks of this kind, under 'model\.' and 'ema\.'; say by --k"):
        packed(both, tmp_path)
    assert load_model(packed(both, tmp_path, key="ema").checkpoint).get_parameter("9.bias").sum() == 10
    with pytest.raises(InvalidCheckpoint, match=r"no weight of this network under 'swa'.* begins with 'model', 'ema'"):
        packed(both, tmp_path, key="swa")


def without(name):
    return lambda weights: {key: tensor for key, tensor in weights.items() if key != name}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("9.bias"), "lacks '9.bias', which digits-cnn with its options has; it has no other names there"),
        (
            lambda w: {name.replace("9.b", "fc.b"): tensor for name, tensor in w.items()},
            "lacks '9.bias', .*; the nearest of its other names is 'fc.bias'",
        ),
        (lambda w: {**w, "9.biass": torch.ones(1)}, "has '9.biass', .* lacks; the nearest .* is '9.bias'"),
        (lambda w: {**w, "9.bias": torch.ones(11)}, r"'9.bias' has shape \[11\], .* expects \[10\]"),
        (lambda w: {**w, "9.bias": torch.full((10,), torch.nan)}, "'9.bias' holds values that are not finite"),
        (lambda w: {"stem.kernel": torch.ones(1)}, "no weight of this network, such as '1.weight'; .* with 'stem'"),
        (lambda w: {"epoch": 3}, "no weight of this network.* begins with nothing"),
        (lambda w: nn.Linear(1, 1), "holds torch.nn.modules.linear.Linear, not tensors alone"),
    ],
)
def test_what_does_not_fit_is_said_with_the_nearest_name_and_nothing_is_written(weights, tmp_path, change, sentence):
    with pytest.raises(InvalidCheckpoint, match=sentence) as refusal:
        packed(change(weights), tmp_path)
    assert "\n" not in str(refusal.value)
    assert {path.name for path in tmp_path.iterdir()} == {"trained.pt"}


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02", bytes(8) + b"{"])
def test_a_file_that_torch_cannot_read_is_refused_in_a_sentence(tmp_path, content):
    (tmp_path / "trained.pt").write_bytes(content)
    with pytest.raises(InvalidCheckpoint, match="is neither safetensors nor what"):
        pack(tmp_path / "trained.pt", MANIFEST, tmp_path / "packed.safetensors")


def test_how_pixels_were_normalised_is_asked_and_never_guessed(weights, tmp_path):
    with pytest.raises(InvalidRequest, match=r"--normalization none .* mean \[0.3074\] and the deviation \[0.3766\]"):
        packed(weights, tmp_path, normalization=None)
    with pytest.raises(InvalidRequest, match="digits has 1 channels"):
        packed(weights, tmp_path, normalization=Normalization((0.5,) * 3, (0.5,) * 3))


def test_a_public_adversarially_trained_resnet18_is_packed_loaded_and_measured(tmp_path, monkeypatch):
    raw = Normalization((0.0,) * 3, (1.0,) * 3)
    result = pack(RESNET18, Manifest("resnet", "cifar10"), tmp_path / "net.safetensors", normalization=raw)
    model = load_model(result.checkpoint)
    published = torch.load(RESNET18, map_location="cpu", weights_only=True)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in published.items())
    write_cifar(tmp_path, monkeypatch, "CIFAR10", "labels")
    few, none = Examples(test=2, train=0), Examples(test=0, train=0)
    part = replace(
        CIFAR10_LINF,
        clean_examples=few,
        robust_loss=replace(CIFAR10_LINF.robust_loss, steps=1, restarts=1),
        robust_loss_examples=few,
        autoattack_examples=none,
        flatness_examples=none,
        rankable=False,
    )
    numbers = evaluate(model, part, dataset=load_dataset("cifar10", data_dir=tmp_path))
    assert numbers.measurement("robust_loss_test").value >= numbers.measurement("clean_loss_test").value


def arguments(path, out, *more):
    return [str(path), "--architecture=digits-cnn", '--options={"width": 4}', "--dataset=digits", f"--out={out}", *more]


def test_the_command_says_what_it_wrote_or_what_is_wrong(weights, tmp_path, capsys):
    path, out = tmp_path / "trained.pt", tmp_path / "packed.safetensors"
    torch.save({"net": weights, "step": torch.tensor(1)}, path)
    assert pack_cli.main(arguments(path, out, "--normalization=dataset")) == 0
    printed = capsys.readouterr().out
    assert "weights stood under 'net.'; 1 other tensors were left out" in printed
    before = out.read_bytes()
    for wrong, sentence in [
        (arguments(path, out, "--normalization=none"), "exists; name another file"),
        (arguments(path, tmp_path / "no" / "x"), "names a folder that does not exist"),
        (arguments(path, tmp_path / "x"), "--normalization none where it took pixels"),
        (arguments(path, tmp_path / "x", "--normalization={}"), "--normalization was '{}'; write none, dataset, or"),
        (arguments(path, tmp_path / "x", "--options=" + "[" * 10_000), "--options is no JSON"),
        (arguments(tmp_path / "absent.pt", tmp_path / "x"), "absent.pt cannot be read"),
    ]:
        assert pack_cli.main(wrong) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert error.count("\n") == 1
    assert {file.name for file in tmp_path.iterdir()} == {path.name, out.name}
    assert out.read_bytes() == before


def test_the_modules_command_line_knows_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluator", "pack", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("evaluator", run_name="__main__")
    assert end.value.code == 0
    assert "--normalization HOW" in capsys.readouterr().out


def test_the_sites_command_line_knows_it_too(capsys):
    with pytest.raises(SystemExit) as end:
        Command().run_from_argv(["manage.py", "pack", "--help"])
    assert end.value.code == 0
    assert "usage: manage.py pack" in capsys.readouterr().out
