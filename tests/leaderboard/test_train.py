"""`manage.py train --submit`: a trained checkpoint comes in through the service, once; what cannot is said before."""

import os
import subprocess
import sys

import pytest

from evaluator.environment import ROOT
from evaluator.shipped import DIGITS_DEMO, DIGITS_LINF
from leaderboard import services
from leaderboard.management.commands.train import Command
from leaderboard.models import State, Submission
from tests.trainers.test_cli import SMALL
from trainers import cli

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINING_DIR", str(tmp_path / "training"))
    return tmp_path / "training"


def train(*arguments):
    with pytest.raises(SystemExit) as ended:
        Command().run_from_argv(["manage.py", "train", "digits/at", *SMALL, "--device=cpu", *arguments])
    return ended.value.code


def test_a_trained_variant_is_submitted_as_a_reference_and_queued_once(
    nudges, capsys, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        assert train("--submit", "--title", "AT, small") == 0
    submission = Submission.objects.get()
    assert (submission.title, submission.is_reference, submission.state) == ("AT, small", True, State.QUEUED)
    assert submission.protocol_name == DIGITS_LINF.name
    assert services.run_store().run(submission.run_id) is not None
    assert nudges == [submission.run_id]
    assert f"'AT, small' under {DIGITS_LINF.label}: queued" in capsys.readouterr().out
    assert train("--submit", "--title", "AT, small") == 0
    assert Submission.objects.count() == 1


def test_the_protocol_is_the_named_one_and_a_long_title_asks_for_another(capsys):
    assert train("--submit", "--protocol", DIGITS_DEMO.name) == 2
    assert "a title needs 1 to 100 printable characters" in capsys.readouterr().err
    assert train("--submit", "--protocol", DIGITS_DEMO.name, "--title", "AT") == 0
    assert "nothing was trained" in capsys.readouterr().err
    assert Submission.objects.get().protocol_name == DIGITS_DEMO.name


def test_nothing_is_submitted_unasked():
    assert train() == 0
    assert not Submission.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--protocol", "cifar10-linf"], "trains on digits"), (["--protocol", "nope"], "no protocol is called 'nope'")],
)
def test_a_protocol_that_does_not_fit_is_refused_before_the_training(arguments, sentence, folder, capsys):
    assert train("--submit", *arguments) == 2
    assert sentence in capsys.readouterr().err
    assert not folder.exists()


def test_a_site_without_tables_is_refused_before_the_training(tmp_path):
    command = [sys.executable, "manage.py", "train", "digits/at", "--submit", "--folder", str(tmp_path / "training")]
    variables = os.environ | {"DATABASE_URL": f"sqlite:///{tmp_path / 'empty.sqlite3'}"}
    ended = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "run manage.py migrate first" in ended.stderr.splitlines()[-1]
    assert not (tmp_path / "training").exists()


def test_seeds_and_changes_tell_default_titles_apart():
    def title(*arguments):
        parsed = cli.parser("train", submits=True).parse_intermixed_args(["digits/at", *arguments])
        return cli._title(parsed, cli._recipe(parsed))

    assert title() == "AT"
    assert title("--seed", "2") == "AT (seed 2)"
    assert title("--seed", "2", "epochs=9") == "AT (epochs=9, seed 2)"
