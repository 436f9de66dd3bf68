"""Temporary folders: there for a block, and gone even when its process was killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from evaluator.environment import ROOT
from evaluator.scratch import scratch_folder


@pytest.fixture(autouse=True)
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_there_for_a_block_and_gone_after_an_error_too(where):
    def fail() -> None:
        with scratch_folder() as folder:
            (folder / "file").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(where.iterdir()) == []


def test_folders_of_others_at_work_stay_and_those_of_killed_processes_go(where):
    code = (
        "from evaluator.scratch import scratch_folder\n"
        "with scratch_folder() as folder: (folder / 'file').touch(); print(folder, flush=True); input()"
    )
    command = [sys.executable, "-c", f"import tempfile; tempfile.tempdir = {str(where)!r}\n{code}"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        theirs = Path(other.stdout.readline().strip())
        with scratch_folder() as ours:
            assert set(where.iterdir()) == {ours, theirs}
        assert (theirs / "file").exists()
        other.kill()
    assert theirs.exists()
    with scratch_folder() as ours:
        assert list(where.iterdir()) == [ours]


def test_what_only_looks_like_such_a_folder_is_left_alone(where):
    (where / "elsewhere").mkdir()
    (where / "robust-leaderboard-link").symlink_to(where / "elsewhere")
    (where / "robust-leaderboard-file").touch()
    with scratch_folder():
        pass
    assert {path.name for path in where.iterdir()} == {
        "elsewhere",
        "robust-leaderboard-file",
        "robust-leaderboard-link",
    }
