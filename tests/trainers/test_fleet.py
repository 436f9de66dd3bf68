"""Several trainings at once leave what one after the other would, share what they can, and die with their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from evaluator.exceptions import InvalidRequest
from trainers.fleet import train_all
from trainers.folder import training_folder
from trainers.loop import train
from trainers.recipe import load_recipe, override

QUICK = {
    "epochs": "2",
    "source.examples": '{"start": 0, "stop": 32}',
    "monitor.examples": '{"start": 400, "stop": 416}',
    "monitor.every": "1",
    "architecture": "digits-cnn",
    "options": "{}",
}


def quick(name):
    return override(load_recipe(name), QUICK)


def test_a_fleet_gives_the_bytes_of_single_trainings_and_trains_shared_ones_once(tmp_path):
    recipes = [quick("digits/at"), quick("digits/at-early-stopped"), quick("digits/clean")]
    heard = []
    variants = train_all(
        [(recipe, 3) for recipe in recipes],
        folder=tmp_path / "fleet",
        processes=2,
        report=lambda *progress: heard.append(progress),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the fleet: sums over another number of threads differ in their last bits
    alone = train(recipes[0], seed=3, folder=tmp_path / "alone")
    torch.set_num_threads(threads)
    assert variants[0].final.read_bytes() == alone.final.read_bytes()
    assert [v.recipe.title for v in variants] == [r.title for r in recipes]
    assert variants[0].log.parent == variants[1].log.parent
    assert variants[1].checkpoint == variants[1].best
    assert len(list((tmp_path / "fleet").iterdir())) == 2
    assert (recipes[0].label(3), 2, 2) in heard
    assert {label for label, _, _ in heard} == {recipes[0].label(3), recipes[2].label(3)}


def test_seeds_of_a_recipe_are_trainings_of_their_own(tmp_path):
    recipe, heard = quick("digits/at"), set()
    trainings = [(recipe, 0), (recipe, 11), (recipe, 1)]
    variants = train_all(trainings, folder=tmp_path, processes=2, report=lambda label, *_: heard.add(label))
    assert [variant.seed for variant in variants] == [0, 11, 1]
    assert [variant.final.parent for variant in variants] == [training_folder(tmp_path, *one) for one in trainings]
    assert len({variant.final.read_bytes() for variant in variants}) == 3
    assert heard == {recipe.label(0), recipe.label(1), recipe.label(11)}


def test_a_training_lies_where_one_of_the_same_digest_and_seed_is_else_under_its_own_name(tmp_path):
    at, stopped = load_recipe("digits/at"), load_recipe("digits/at-early-stopped")
    swept = load_recipe("digits/at optimizer.weight_decay=0.01")
    first = training_folder(tmp_path, stopped, 1)
    assert first == tmp_path / f"digits-at-early-stopped-1-{at.digest[:12]}"
    assert training_folder(tmp_path, at, 1) == tmp_path / f"digits-at-1-{at.digest[:12]}"
    first.mkdir()
    assert training_folder(tmp_path, at, 1) == first
    assert training_folder(tmp_path, at, 11) == tmp_path / f"digits-at-11-{at.digest[:12]}"
    assert training_folder(tmp_path, swept, 1) == tmp_path / f"digits-at-1-{swept.digest[:12]}"


def test_an_error_in_one_training_stops_the_fleet_with_its_sentence(tmp_path):
    recipe = quick("digits/at")
    train(recipe, seed=1, folder=training_folder(tmp_path, recipe, 2))
    with pytest.raises(InvalidRequest, match="give it a folder of its own"):
        train_all([(recipe, 2)], folder=tmp_path, processes=1, report=lambda *_: None)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_trainers_end_when_their_parent_is_killed(tmp_path):
    code = (
        "from pathlib import Path; from trainers.fleet import train_all; from trainers.recipe import load_recipe\n"
        "if __name__ == '__main__':\n"
        f"    train_all([(load_recipe('digits/at'), 0)], folder=Path({str(tmp_path)!r}), processes=1,\n"
        "              report=lambda *p: None)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, str(script)], env=os.environ | {"PYTHONPATH": str(root)})

    def logged():
        return sum(log.stat().st_size for log in tmp_path.glob("*/log.jsonl"))

    until = time.monotonic() + 120
    while not logged() and time.monotonic() < until:
        assert parent.poll() is None
        time.sleep(0.1)
    children = (Path("/proc") / str(parent.pid) / "task" / str(parent.pid) / "children").read_text().split()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < until:
        time.sleep(0.1)
    assert children
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
