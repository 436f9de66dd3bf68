"""What is handed in becomes a checkpoint, or is refused in one precise sentence, cheaply, with nothing left behind."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluator import intake
from evaluator.checkpoint_file import open_checkpoint
from evaluator.checkpoints import load_model
from evaluator.exceptions import InvalidCheckpoint, InvalidRequest, MeasuringDied
from evaluator.intake import receive
from evaluator.manifest import Manifest
from tests.evaluator import hostile
from tests.evaluator.hostile import TINY, hostile_files
from tests.evaluator.refusing import NEED_TORCH
from tests.test_house import ROOT

MANIFEST = Manifest("digits-cnn", "digits", {"width": 8})


@pytest.fixture(scope="module")
def refusals(tmp_path_factory, request):
    """Every hostile file's fate, by name, from one process that got them all."""
    folder = tmp_path_factory.mktemp("hostile")
    finished = subprocess.run(
        [sys.executable, "-m", "tests.evaluator.refusing"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    fates = {fate["name"]: fate for fate in map(json.loads, finished.stdout.splitlines())}
    assert not [path for path in folder.iterdir() if path.name != "sent"]
    slowest, largest = (max(fates.values(), key=lambda fate: fate[key]) for key in ("seconds", "megabytes"))
    without_torch = max(fate["megabytes"] for fate in fates.values() if not fate["torch"])
    summary = (
        f"hostile files: {len(fates)} tried, {sum(fate['code'] == 2 for fate in fates.values())} refused, slowest "
        f"{slowest['seconds']:.2f} s ({slowest['name']}), largest {largest['megabytes']:.0f} MB ({largest['name']}), "
        f"{without_torch:.0f} MB where no network is made"
    )
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{summary}")
    return fates


@pytest.mark.parametrize("name", hostile_files())
def test_a_hostile_file_is_refused_in_a_sentence_of_its_own_below_500_mb(refusals, name):
    fate = refusals[name]
    assert fate["code"] == 2, fate
    assert fate["said"].count("\n") == 1
    assert len(fate["said"]) < 500
    assert re.search(hostile_files()[name][1], fate["said"]), fate["said"]
    assert fate["megabytes"] < 500
    assert not fate["left"], "something was stored or executed"
    assert fate["torch"] == (name in NEED_TORCH)


def test_the_same_name_never_stands_for_two_files():
    kinds = (hostile.FORMATS, hostile.SAFETENSORS, hostile.WEIGHTS, hostile.MANIFESTS, hostile.ZIPS, hostile.PICKLES)
    assert len(hostile_files()) == sum(map(len, kinds)) > 100


@pytest.fixture(scope="module")
def state_dict(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sent") / "net.pt"
    torch.save(load_file(TINY), path)
    return path


def test_a_state_dict_becomes_the_checkpoint_that_safetensors_would_have_become(state_dict, tmp_path):
    checkpoint = receive(state_dict, tmp_path, manifest=MANIFEST)
    assert checkpoint.path.parent == tmp_path
    save_file(load_file(TINY), tmp_path / "bare")
    loaded = load_model(checkpoint).state_dict()
    direct = load_model(receive(tmp_path / "bare", tmp_path, manifest=MANIFEST)).state_dict()
    assert loaded.keys() == direct.keys()
    assert all(torch.equal(loaded[name], direct[name]) for name in direct)


def test_the_same_state_dict_becomes_the_same_bytes(state_dict, tmp_path):
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        digests.add(receive(state_dict, tmp_path / name, manifest=MANIFEST).sha256)
    assert len(digests) == 1


def test_a_file_with_its_manifest_inside_is_taken_as_it_is(tmp_path):
    assert receive(TINY, tmp_path) == open_checkpoint(TINY)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidRequest, match="leave architecture, options and data set out"):
        receive(TINY, tmp_path, manifest=Manifest("digits-cnn", "digits", {"width": 16}))


def test_a_state_dict_of_which_nobody_says_the_network_is_refused_with_what_to_name(state_dict, tmp_path):
    with pytest.raises(InvalidCheckpoint, match=r"name its architecture, options and data set, or run manage.py pack"):
        receive(state_dict, tmp_path)


def test_a_file_beyond_the_cap_is_refused_before_a_byte_of_it_is_read(tmp_path):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(2_000_000_001)
    with pytest.raises(InvalidCheckpoint, match="has 2000000001 bytes; at most 2000000000 are taken in"):
        receive(path, tmp_path)


def test_a_process_that_converts_and_dies_is_reported_with_its_end(state_dict, tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "_CONVERTING_BYTES", 100)  # too little for any file, and for Python
    with pytest.raises(MeasuringDied, match=r"converting net.pt ended with exit status"):
        receive(state_dict, tmp_path, manifest=MANIFEST)
