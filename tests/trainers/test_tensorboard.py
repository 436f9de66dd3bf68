"""`--tensorboard` writes the log a second time, or says what to install."""

import json
import sys
from types import ModuleType
from typing import ClassVar

import pytest

from tests.trainers.test_cli import SMALL
from trainers import cli
from trainers.loop import EpochRecord
from trainers.tensorboard import TensorBoard

CALL = ["digits/at", *SMALL, "--device=cpu", "--tensorboard"]


class Writer:
    """Stands for the package's writer; remembers what it was told."""

    opened: ClassVar[list["Writer"]] = []

    def __init__(self, log_dir: str, purge_step: int) -> None:
        self.log_dir, self.purge_step, self.closed = log_dir, purge_step, False
        self.scalars: list[tuple[str, float, int]] = []
        self.opened.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def flush(self) -> None:
        assert not self.closed

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Writer, "opened", [])
    return Writer.opened


def test_the_scalars_are_those_of_the_log(tmp_path, installed):
    assert cli.main([*CALL, "--folder", str(tmp_path / "training")]) == 0
    (writer,) = installed
    assert (writer.log_dir, writer.purge_step, writer.closed) == (str(tmp_path / "training/tensorboard"), 1, True)
    expected = []
    for line in map(json.loads, (tmp_path / "training/log.jsonl").read_text().splitlines()):
        expected += [("loss", line["loss"], line["epoch"]), ("learning rate", line["learning_rate"], line["epoch"])]
        if seen := line["held_out"]:
            expected.append(("held out/robust loss", seen["robust_loss"], line["epoch"]))
            expected.append(("held out/robust error", seen["robust_error"], line["epoch"]))
    assert writer.scalars == expected
    assert cli.main([*CALL, "--folder", str(tmp_path / "training")]) == 0
    assert len(installed) == 1, "a finished training writes nothing"


def test_a_training_that_goes_on_takes_back_the_epochs_that_happen_again(tmp_path, installed):
    board = TensorBoard(tmp_path)
    board.show(EpochRecord(5, 9, 0.1, 2.0, None, 1.0))
    board.show(EpochRecord(6, 9, 0.1, 1.5, None, 2.0))
    assert [writer.purge_step for writer in installed] == [5]


def test_without_the_package_one_sentence_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert cli.main([*CALL, "--folder", str(tmp_path / "training")]) == 2
    assert "run `pip install tensorboard`" in capsys.readouterr().err
    assert not (tmp_path / "training").exists()
