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
TITLES = """
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
    """Yield a line on which two uploads come half way: the first hangs until it is cut, the next is cut at once."""
    line = Line(served, breaks=2, after=TINY.stat().st_size // 2)
    yield line
    line.close()


def test_an_upload_that_is_killed_half_way_is_sent_again_over_a_line_that_breaks_and_is_published_and_others_refused(
    served: str, shell: Shell, line: Line, tmp_path: Path
) -> None:
    (tmp_path / "wrong").write_text("rlb_wrong")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(TINY.read_bytes()[:-4])
    for arguments, file, sentence in (
        (["--token-file", str(tmp_path / "wrong")], TINY, "followed by a personal token that has neither expired nor"),
        (["--paper", "ftp://example.org"], TINY, "paper: give a whole address"),
        ([], cut, "the file is truncated"),
    ):
        code, _, said = shell.run(served, *arguments, file=file)
        assert code == 2
        assert sentence in said

    killed = shell.start(line.address)
    assert line.arrived.wait(DEADLINE_SECONDS)
    killed.kill()
    killed.communicate()
    line.cut()
    assert shell.asked(TITLES).strip() == ""
    code, out, said = shell.run(line.address, "--title", "Sent twice", "--wait", "--json")
    assert code == 0, said
    assert "trying again in 1 s" in said
    document = json.loads(out)
    assert document["state"] == "published"
    assert f"/submissions/{document['run_id']}/" in said
    assert said.splitlines()[-1].startswith("published, ")
    assert shell.asked(TITLES).strip() == "Sent twice"

    code, out, said = shell.run(served, "--json")
    assert (code, json.loads(out)["run_id"]) == (0, document["run_id"])
    assert "(handed in before)" in said
