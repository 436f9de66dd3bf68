"""The command line: one training a call, resumable by the same call, and one sentence, exit code 2, for bad input."""

import io
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from evaluator.checkpoint_file import open_checkpoint
from evaluator.shipped import DIGITS_LINF
from trainers import cli
from trainers.differences import listing, markdown
from trainers.loop import EpochRecord
from trainers.monitors import HeldOut
from trainers.orders import protocol_for
from trainers.recipe import Recipe, list_recipes, load_recipe

RECIPES = list_recipes()
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
SMALL = [
    "architecture=digits-cnn",
    "options={}",
    "epochs=4",
    "source.examples.stop=32",
    "attack.steps=1",
    "monitor.examples.stop=416",
    "monitor.attack.steps=1",
    "monitor.every=2",
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINING_DIR", str(tmp_path / "training"))
    return tmp_path / "training"


def told(printed: str) -> dict[str, str]:
    """Return what stands behind each word at the beginning of a line."""
    return {word: rest.strip() for word, _, rest in (line.partition(" ") for line in printed.splitlines())}


def test_a_variant_is_trained_and_the_command_that_measures_it_is_printed(folder, capsys):
    assert cli.main(["digits/trades", *SMALL, "--device", "cpu", "--seed", "7", "objective.beta=3"]) == 0
    said = told(capsys.readouterr().out)
    checkpoint = Path(said["checkpoint"])
    recipe = load_recipe(shlex.join(["digits/trades", *SMALL, "objective.beta=3"]))
    assert open_checkpoint(checkpoint).manifest.recipe == recipe.name
    assert checkpoint.parent == folder / f"digits-trades-7-{recipe.digest[:12]}"
    assert len(Path(said["log"]).read_text().splitlines()) == 4
    assert shlex.split(said["measure"])[-3:] == [str(checkpoint), "--protocol", DIGITS_LINF.name]


def test_resume_goes_on_and_never_begins_anew(tmp_path, capsys):
    call = ["digits/at", *SMALL, "--device=cpu", "--folder", str(tmp_path / "training"), "--resume"]
    assert cli.main(call) == 2
    assert "no training was saved in" in capsys.readouterr().err
    assert not (tmp_path / "training").exists()
    assert cli.main(call[:-1]) == 0
    assert cli.main(call) == 0
    assert "nothing was trained" in capsys.readouterr().err


def test_the_same_call_goes_on_after_an_interruption_and_trains_nothing_when_all_is_done(tmp_path, capsys, monkeypatch):
    call = ["digits/at", *SMALL, "--device=cpu", "--save-every=1"]
    assert cli.main([*call, "--folder", str(tmp_path / "straight")]) == 0
    show = cli._Live.show

    def interrupted(live, record):
        show(live, record)
        if record.epoch == 3:
            raise KeyboardInterrupt

    call += ["--folder", str(tmp_path / "broken")]
    monkeypatch.setattr(cli._Live, "show", interrupted)
    assert cli.main(call) == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "broken" / "final.safetensors").exists()
    monkeypatch.setattr(cli._Live, "show", show)
    assert cli.main(call) == 0
    assert "goes on after epoch 3" in capsys.readouterr().err
    straight, broken = (tmp_path / name / "final.safetensors" for name in ("straight", "broken"))
    assert straight.read_bytes() == broken.read_bytes()
    assert cli.main(call) == 0
    again = capsys.readouterr()
    assert "nothing was trained" in again.err
    assert told(again.out)["checkpoint"] == str(broken)


def test_recipes_that_share_a_training_share_its_folder_and_others_have_their_own(folder, capsys):
    assert cli.main(["digits/at", *SMALL, "--device=cpu"]) == 0
    capsys.readouterr()
    assert cli.main(["digits/at-early-stopped", *SMALL, "--device=cpu"]) == 0
    printed = capsys.readouterr()
    assert "nothing was trained" in printed.err
    assert Path(told(printed.out)["checkpoint"]).name == "best.safetensors"
    assert cli.main(["digits/at", *SMALL, "--device=cpu", "--seed=1"]) == 0
    assert cli.main(["digits/at", *SMALL, "--device=cpu", "optimizer.momentum=0.8"]) == 0
    assert len(list(folder.iterdir())) == 3


def test_the_list_is_all_recipes_or_those_of_a_family_as_text_or_markdown(capsys):
    printed = {}
    for options in ((), ("--family=digits",), ("--markdown",), ("--family=digits", "--markdown")):
        assert cli.main(["--list", *options]) == 0
        printed[options] = capsys.readouterr().out.splitlines()
    recipes = {"all": RECIPES, "digits": list_recipes("digits")}
    assert printed[()] == listing(recipes["all"])
    assert printed[("--family=digits",)] == listing(recipes["digits"])
    assert printed[("--markdown",)] == markdown(recipes["all"])
    assert printed[("--family=digits", "--markdown")] == markdown(recipes["digits"])


@every_recipe
def test_the_printed_configuration_is_the_whole_recipe(recipe: Recipe, capsys):
    assert cli.main([recipe.name, "--print-config"]) == 0
    assert Recipe.model_validate_json(capsys.readouterr().out) == recipe


def test_the_printed_configuration_holds_the_changes_and_trains_nothing(folder, capsys):
    assert cli.main(["digits/at", "--print-config", "optimizer.momentum=0.8"]) == 0
    assert Recipe.model_validate_json(capsys.readouterr().out).optimizer.momentum == 0.8
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no recipe was named"),
        (["digits/trade"], "no recipe is called 'digits/trade'; did you mean 'digits/trades'? There are digits/adam,"),
        (["--list", "--family=stutz2012"], "did you mean 'stutz2021'? There are digits, stutz2021"),
        (["digits/at", "rate=1"], "has no setting 'rate'; there are after_step,"),
        (["digits/at", "objective.beta=1"], "no setting 'beta' in objective; there are kind, label_smoothing"),
        (["digits/cyclic", "schedule.milestones=[0.5]"], "no setting 'milestones' in schedule; there are cycles, kind"),
        (["digits/at", "attack.epsilon=0"], "attack.pgd.epsilon: Input should be greater than 0, got 0"),
        (["digits/at", "attack.norm=L1"], "attack.pgd.norm: Input should be 'Linf' or 'L2', got 'L1'"),
        (["digits/at", "stepper.kind=sam"], "'sam' found using 'kind' does not match any of the expected tags: 'sgd'"),
        (["digits/at", "checkpoint=best", "monitor=null"], "the best checkpoint needs a monitor to choose it"),
        (["digits/unlabeled", "source.unlabeled.examples.start=500"], "overlap the unlabeled, 500 … 797"),
        (["digits/at", "monitor.examples.stop=900"], "797"),
        (["digits/at", "dataset=digit"], "no data set is called 'digit'; there are digits,"),
        (["digits/at", "architecture=digits-resnt"], "digits-resnet"),
        (["digits/at", "epochs=many"], "epochs: Input should be a valid integer"),
        (["digits/at", "epochs"], "written key=value, as in epochs=20; got 'epochs'"),
        (["digits/at", "options.width=many"], "width"),
        (["digits/at", "--seed=-1"], "a seed is a whole number from 0"),
        (["digits/at", "--save-every=0"], "at least 1, got 0"),
        (["digits/at", "--device=tpu"], "no device is called 'tpu'; expected auto, cpu, cuda or cuda:n"),
        (["digits/at", "--device=cuda:99"], "cuda:99 was asked for, but torch sees"),
        (["digits/at", "--folder", __file__], "is no folder that can be written to; name another"),
        (["digits/at", "--folder", f"{__file__}/below"], "is no folder that can be written to; name another"),
        (["digits/at", "--protocol=nope"], "no protocol is called 'nope'; there are digits-linf"),
        (["digits/at", "--protocol=cifar10-linf"], "trains on digits, but cifar10-linf v1 measures on cifar10"),
        (["digits/at", "dataset=cifar10", "--data-dir=absent"], "absent"),
        (["stutz2021/at", "--data-dir=absent"], "CIFAR10 was not found whole in absent/cifar-10-batches-py"),
    ],
    ids=lambda value: " ".join(value[1:])[:30] if isinstance(value, list) else "",
)
def test_bad_input_gets_one_sentence_and_exit_code_2_and_stores_nothing(arguments, sentence, folder, capsys):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error
    assert not folder.exists()


def test_a_folder_of_another_training_is_refused(tmp_path, capsys):
    call = ["digits/at", *SMALL, "--device=cpu", "--folder", str(tmp_path / "taken")]
    assert cli.main(call) == 0
    assert cli.main([*call, "--seed=1"]) == 2
    assert "give it a folder of its own" in capsys.readouterr().err


def test_the_line_on_a_terminal_fits_it_and_keeps_what_the_monitor_saw_last():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    with cli._Live(console, load_recipe("digits/at")) as live:
        live.show(EpochRecord(1, 120, 0.1, 2.25, HeldOut(robust_error=0.875, robust_loss=2.125), 1.0))
        live.show(EpochRecord(2, 120, 0.1, 1.5, None, 2.0))
    shown = screen.getvalue()
    assert "loss 1.500 · held out: loss 2.125, error 87.5%" in shown
    assert "eta" in shown
    assert "…" not in shown


def test_without_a_site_nothing_can_be_submitted(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["digits/at", "--submit"])
    assert "--submit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "protocol"),
    [("stutz2021/at", "cifar10-linf"), ("stutz2021/l2", "cifar10-l2"), ("stutz2021/clean", "cifar10-linf"),
     ("digits/l2", "digits-linf")],
)  # fmt: skip
def test_the_protocol_that_is_not_named_is_that_of_data_set_and_norm(name, protocol):
    found = protocol_for(load_recipe(name))
    assert found is not None
    assert found.name == protocol
