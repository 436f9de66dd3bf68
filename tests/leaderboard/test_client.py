"""A checkpoint goes to another site: a token goes to one host alone, and every refusal is a sentence and a status."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from leaderboard import client, remote, submit_options
from leaderboard.models import ExtraData
from tests.leaderboard import factory
from tests.leaderboard.sites import QUEUED, Scripted, scripted
from tests.test_house import NO_TORCH, ROOT

TOKEN = "rlb_planted-0123456789"
PUBLISHED = QUEUED | {"state": "published", "ended": True, "examples_done": 10, "position": None}
GREETED = (200, {}, {"submissions": [], "next": None})


def refused(status: int, sentence: str, **headers: str) -> tuple[int, dict[str, str], object]:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, {"detail": sentence}


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], slept: list[float]):
    """Return how a file is handed to a site: the exit code, what was said, and what was printed."""
    monkeypatch.setenv(client.TOKEN, TOKEN)

    def send(site: Scripted | str, *arguments: str, file: Path | None = None) -> tuple[int, str, str]:
        address = site if isinstance(site, str) else site.address
        file = file or factory.checkpoint(tmp_path, 1)
        code = client.main([str(file), "--site", address, "--protocol", "smoke", "--consent", *arguments])
        out, err = capsys.readouterr()
        assert TOKEN not in out + err
        return code, err, out

    return send


def test_a_file_goes_whole_with_what_is_said_of_it_and_is_followed_until_it_is_published(sent, tmp_path: Path) -> None:
    followed = [(200, {"ETag": '"1"'}, QUEUED), (304, {}, None), (200, {"ETag": '"2"'}, PUBLISHED)]
    with scripted(GREETED, (201, {}, QUEUED), *followed) as site:
        code, said, out = sent(site, "--title", "Mine", "--anonymous", "--venue", "ICCV 2021", "--wait", "--json")
    assert (code, json.loads(out)) == (0, PUBLISHED)
    assert said.splitlines() == [
        f"{site.address}/submissions/{QUEUED['run_id']}/",
        "queued, place 1 in the queue, 0 of 10 examples",
        "published, 10 of 10 examples",
    ]
    _, (method, path, headers, body), _, polled, _ = site.asked
    assert (method, body) == ("POST", factory.checkpoint(tmp_path, 1).read_bytes())
    wish = ("title=Mine", "protocol=smoke", "consent=true", "private=false", "anonymous=true", "venue=ICCV%202021")
    assert all(one in path.replace("+", "%20") for one in wish)
    assert len(headers["Idempotency-Key"]) >= 20
    assert polled[2]["If-None-Match"] == '"1"'
    assert {asked[2]["Authorization"] for asked in site.asked} == {f"Bearer {TOKEN}"}


def test_a_broken_transfer_is_repeated_with_the_same_key(sent) -> None:
    with scripted(GREETED, (0, {}, None), refused(503, "no room; try again later"), (200, {}, QUEUED)) as site:
        code, said, _ = sent(site)
    posts = [asked for asked in site.asked if asked[0] == "POST"]
    assert (code, len(posts), len({headers["Idempotency-Key"] for _, _, headers, _ in posts})) == (0, 3, 1)
    assert len({body for *_, body in posts}) == 1
    assert "does not answer" in said
    assert "no room; try again later; trying again in 2 s" in said
    assert "(handed in before)" in said


def test_a_site_that_asks_for_patience_gets_it_unless_it_is_too_much(sent, slept: list[float]) -> None:
    busy = "too many requests; wait 40 seconds, then try again"
    with scripted(GREETED, refused(429, busy, Retry_After="40"), (201, {}, QUEUED)) as site:
        code, said, _ = sent(site)
    assert (code, slept) == (0, [40.0])
    assert busy in said
    with scripted(GREETED, refused(429, "5 submissions wait; come tomorrow", Retry_After="86400")) as site:
        code, said, _ = sent(site)
    assert (code, slept) == (2, [40.0])
    assert "5 submissions wait; come tomorrow" in said


def test_a_site_that_never_answers_is_given_up_as_a_failure_of_its_own(sent, slept: list[float]) -> None:
    with scripted(*[(0, {}, None)] * 6) as site:
        code, said, _ = sent(site)
    assert (code, slept) == (1, [1.0, 2.0, 4.0, 8.0, 16.0])
    assert "check the address, or try again later" in said


@pytest.mark.parametrize(
    ("answers", "code", "sentence"),
    [
        ([refused(401, "send Authorization: Bearer")], 2, "send Authorization: Bearer"),
        ([refused(403, "this token is not for that"), refused(403, "make one with the scope submit")], 2, "make one"),
        ([GREETED, refused(400, "upload is \x1b[31mwrong")], 2, "upload is \ufffd[31mwrong"),
        ([GREETED, (500, {}, None)], 1, "answered 500 without a sentence"),
        ([(404, {}, None)], 2, "answered 404 without a sentence"),
        ([(200, {}, "hello")], 1, "not as a robust leaderboard does"),
        ([GREETED, (201, {}, {"state": "queued"})], 1, "no submission stands like this"),
    ],
)
def test_what_a_site_refuses_is_said_in_its_sentence(sent, answers: list[Any], code: int, sentence: str) -> None:
    with scripted(*answers) as site:
        found, said, out = sent(site)
    assert (found, out, site.answers) == (code, "", [])
    assert sentence in said


def test_a_token_that_cannot_read_is_refused_before_the_upload_where_it_would_have_to(sent) -> None:
    with scripted(refused(403, "make one with the scope read")) as site:
        code, said, _ = sent(site, "--wait")
    assert (code, len(site.asked)) == (2, 1)
    assert "make one with the scope read" in said


def test_a_failed_submission_is_told_with_its_hint_and_whose_fault_it_is(sent) -> None:
    for fault, expected in (("submitter", 2), ("ours", 1)):
        failure = {"kind": None, "fault": fault, "reason": "the network is not one", "hint": "Correct it.", "log": None}
        failed = QUEUED | {"state": "failed", "ended": True, "failure": failure}
        with scripted(GREETED, (201, {}, QUEUED), (200, {}, failed)) as site:
            code, said, _ = sent(site, "--wait")
        assert code == expected
        assert said.endswith("the network is not one\nCorrect it.\n")


def test_a_token_follows_no_redirect(sent) -> None:
    with scripted() as other, scripted((302, {"Location": f"{other.address}/api/v1/submissions/"}, None)) as site:
        code, said, _ = sent(site)
        assert other.asked == []
    assert code == 2
    assert f"leads to {other.address}" in said
    with scripted() as other, scripted(GREETED, (307, {"Location": other.address}, None)) as site:
        assert sent(site)[0] == 2
        assert other.asked == []


def test_no_proxy_reads_a_token_that_goes_to_this_machine(sent, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted() as proxy, scripted(GREETED, (201, {}, QUEUED)) as site:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.address)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert sent(site)[0] == 0
        assert proxy.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "http://board.example.org", "board.example.org", "https://", "ftp://127.0.0.1", "https://me:it@board.example.org",
        "https://board.example.org/elsewhere", "https://board.example.org?a=b", "http://127.0.0.1.example.org",
        "https://board.example.org:port", "https://[::1",
    ],
)  # fmt: skip
def test_a_token_goes_by_https_or_to_this_machine_alone(sent, address: str) -> None:
    code, said, _ = sent(address)
    assert code == 2
    assert "--site was" in said


def test_addresses_to_which_a_token_may_go() -> None:
    good = {
        "https://board.example.org/": "https://board.example.org",
        "https://BOARD.example.org:8443": "https://board.example.org:8443",
        "http://localhost:8000": "http://localhost:8000",
        "http://[::1]:8000/": "http://[::1]:8000",
    }
    assert {address: remote.address_of(address) for address in good} == good


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--token-file", "absent"], "absent cannot be read"),
        (["--token-file", "pyproject.toml"], "pyproject.toml holds no token"),
        (["--protocol", "cifar10-linf"], "was made for digits"),
        (["--architecture", "digits-resnet"], "says that it is"),
        (["--architecture", "digits-cnn", "--protocol", "theirs"], "'theirs' is not known here"),
    ],
)
def test_what_is_wrong_here_is_said_before_the_site_is_asked(sent, arguments: list[str], sentence: str) -> None:
    with scripted() as site:
        code, said, _ = sent(site, *arguments)
        assert site.asked == []
    assert code == 2
    assert sentence in said


def test_a_file_that_is_none_goes_nowhere(sent, tmp_path: Path) -> None:
    wrong = tmp_path / "notes.safetensors"
    wrong.write_text("not a checkpoint")
    with scripted() as site:
        code, said, _ = sent(site, file=wrong)
        assert site.asked == []
    assert code == 2
    assert "notes.safetensors" in said


def test_without_token_or_consent_nothing_is_asked(sent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted() as site:
        file = str(factory.checkpoint(tmp_path, 1))
        assert client.main([file, "--site", site.address, "--protocol", "smoke"]) == 2
        monkeypatch.delenv(client.TOKEN)
        assert "make one at the site under /account/tokens/" in sent_said(sent(site))
        assert site.asked == []


def sent_said(answer: tuple[int, str, str]) -> str:
    code, said, _ = answer
    assert code == 2
    return said


def test_who_interrupts_hears_where_to_look(sent, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with scripted(GREETED, (201, {}, QUEUED), (200, {}, QUEUED)) as site:
        code, said, _ = sent(site, "--wait")
    assert code == 130
    assert f"it is measured all the same; {site.address}/submissions/{QUEUED['run_id']}/ shows how it stands" in said
    with scripted((0, {}, None)) as site:
        code, said, _ = sent(site)
    assert code == 130
    assert "the same command sends it again" in said


def test_the_client_needs_neither_django_nor_torch_nor_settings(tmp_path: Path) -> None:
    code = NO_TORCH.replace('== "torch"', 'in ("torch", "django")') + (
        "from leaderboard.client import main\nsys.exit(main())"
    )
    with scripted(GREETED, (201, {}, QUEUED)) as site:
        finished = subprocess.run(
            [sys.executable, "-c", code, str(factory.checkpoint(tmp_path, 1)), "--site", site.address,
             "--protocol", "smoke", "--consent"],
            cwd=ROOT, env={client.TOKEN: TOKEN}, capture_output=True, text=True,
        )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert "queued, place 1 in the queue" in finished.stderr


def test_the_command_line_knows_all_kinds_of_extra_data() -> None:
    assert list(submit_options.EXTRA_DATA) == ExtraData.values
