"""A program hands a checkpoint to a real site over a real line: killed in the middle, repeated, published, refused."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.test_serve import DEADLINE_SECONDS, ROOT
from tests.end_to_end.test_watching import served
from tests.leaderboard.sites import Line

__all__ = ["served"]

TINY = ROOT / "fixtures" / "tiny.safetensors"
MAKE_TOKEN = """
import django
django.setup()
from django.contrib.auth.models import User
from leaderboard import tokens
print(tokens.make(User.objects.create_user("ann"), "script", ["read", "submit"], days=1))
"""
COUNT = """
import django
django.setup()
from leaderboard.models import Submission
print(*Submission.objects.values_list("title", flat=True))
"""


class Shell:
    """Runs the client as a person would, from a place without a site."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder, self.variables = folder, variables
        self.token = self.asked(MAKE_TOKEN)
        (folder / "token").write_text(f"{self.token}\n")

    def asked(self, code: str) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=ROOT, env=self.variables, check=True, capture_output=True, text=True).stdout

    def start(self, site: str, *arguments: str, file: Path = TINY) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "leaderboard.client", str(file), "--site", site, "--protocol", "smoke"]
        token = () if "--token-file" in arguments else ("--token-file", str(self.folder / "token"))
        return subprocess.Popen(
            [*command, "--consent", *token, *arguments], cwd=ROOT, env={}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, site: str, *arguments: str, file: Path = TINY) -> tuple[int, str, str]:
        running = self.start(site, *arguments, file=file)
        out, err = running.communicate(timeout=DEADLINE_SECONDS)
        assert self.token.strip() not in out + err
        return running.returncode, out, err


@pytest.fixture
def shell(served: str, tmp_path: Path, variables: dict[str, str]) -> Shell:
    return Shell(tmp_path, variables)


@pytest.fixture
def line(served: str) -> Iterator[Line]:
    """Yield a line on which the first upload comes half way."""
    line = Line(served, breaks=1, after=TINY.stat().st_size // 2)
    yield line
    line.close()


def test_an_upload_that_is_killed_half_way_leaves_nothing_and_the_same_command_again_is_published(
    served: str, shell: Shell, line: Line
) -> None:
    killed = shell.start(line.address)
    assert line.arrived.wait(DEADLINE_SECONDS)
    killed.kill()
    killed.communicate()
    line.cut()
    assert shell.asked(COUNT).strip() == ""
    code, out, said = shell.run(line.address, "--title", "Sent twice", "--wait", "--json")
    assert code == 0, said
    document = json.loads(out)
    assert document["state"] == "published"
    assert f"/submissions/{document['run_id']}/" in said.splitlines()[0]
    assert said.splitlines()[-1].startswith("published, ")
    assert shell.asked(COUNT).split("\n")[0] == "Sent twice"
    code, out, said = shell.run(served, "--json")
    assert (code, json.loads(out)["run_id"]) == (0, document["run_id"])
    assert "(handed in before)" in said


def test_a_line_that_breaks_half_way_is_mended_by_the_client_itself(shell: Shell, line: Line) -> None:
    running = shell.start(line.address)
    assert line.arrived.wait(DEADLINE_SECONDS)
    line.cut()
    _, said = running.communicate(timeout=DEADLINE_SECONDS)
    assert running.returncode == 0, said
    assert "trying again in 1 s" in said
    assert shell.asked(COUNT).strip() == "tiny"


def test_a_real_site_refuses_a_wrong_token_and_wrong_words_in_its_own_sentences(
    served: str, shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "wrong").write_text("rlb_wrong")
    code, _, said = shell.run(served, "--token-file", str(tmp_path / "wrong"))
    assert code == 2
    assert "followed by a personal token that has neither expired nor been revoked" in said
    code, _, said = shell.run(served, "--paper", "ftp://example.org")
    assert code == 2
    assert "paper: give a whole address" in said
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(TINY.read_bytes()[:-4])
    code, _, said = shell.run(served, file=cut)
    assert code == 2
    assert "cut.safetensors" in said
    assert shell.asked(COUNT).strip() == ""
