"""Programs hand in checkpoints in the name of whoever made their token, and follow them."""

import errno
import io
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
import torch
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from safetensors.torch import load_file

from evaluator.artifacts import Artifacts
from evaluator.checkpoint_file import open_checkpoint
from evaluator.environment import read_environment
from evaluator.exceptions import DatasetMissing, Fault, MeasuringDied
from leaderboard import services, throttling, tokens, uploads
from leaderboard.access import Scope
from leaderboard.models import Attempts, State, Submission, Token
from leaderboard.throttling import RATES, Rate, TooManyRequests
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db

Send = Callable[..., object]


@pytest.fixture
def owner() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def token(owner: User) -> str:
    return tokens.make(owner, "laptop", [Scope.READ, Scope.SUBMIT], days=7)


@pytest.fixture
def send(client: Client, token: str, tmp_path: Path) -> Send:
    def send(number: int = 0, *, body: bytes | None = None, by: str = token, key: str = "", **wish: str):
        wish = {"title": "AT", "protocol": "digits-demo", "consent": "true"} | wish
        headers = {"Authorization": f"Bearer {by}"} | ({"Idempotency-Key": key} if key else {})
        content = factory.checkpoint(tmp_path, number).read_bytes() if body is None else body
        address = f"/api/v1/submissions/?{urlencode(wish)}"
        return client.post(address, content, content_type="application/octet-stream", headers=headers)

    return send


def stored() -> list[str]:
    root = Path(read_environment().artifacts_url)
    return [path.name for path in root.iterdir()] if root.exists() else []


def test_a_checkpoint_comes_in_and_says_where_it_stands(client: Client, send: Send, token: str, owner: User) -> None:
    answer = send(private="true")
    assert answer.status_code == 201
    submission = Submission.objects.get()
    assert (submission.owner, submission.is_private, submission.state) == (owner, True, State.QUEUED)
    assert Artifacts(read_environment().artifacts_url).exists(submission.checkpoint_sha256)
    assert submission.size_bytes > 0
    bearer = {"Authorization": f"Bearer {token}"}
    followed = client.get(answer["Location"], headers=bearer)
    assert followed.json() == answer.json()
    assert followed.json()["state"] == "queued"
    cancelled = client.post(f"{answer['Location']}cancel", headers=bearer)
    assert cancelled.json()["state"] == "cancelled"


def test_a_state_dict_is_converted_and_stored_as_safetensors_alone(send: Send, tmp_path: Path) -> None:
    content = io.BytesIO()
    torch.save(load_file(factory.checkpoint(tmp_path, 1)), content)
    network = open_checkpoint(factory.checkpoint(tmp_path, 1)).manifest
    named = {"architecture": network.architecture, "options": json.dumps(network.options), "dataset": network.dataset}
    refused = send(body=content.getvalue())
    assert (refused.status_code, stored()) == (400, [])
    assert "is a state dict that does not say what network it is for" in refused.json()["detail"]
    first, again = (send(body=content.getvalue(), **named) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    (kept,) = stored()
    artifact = Path(read_environment().artifacts_url) / kept
    assert open_checkpoint(artifact).manifest.options == network.options


def test_the_same_again_is_the_same_submission(send: Send) -> None:
    first, again = send(), send(title="another title")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first["Location"] == again["Location"]


def test_a_request_that_is_repeated_with_its_key_never_starts_a_new_run(send: Send) -> None:
    first = send(key="one")
    services.cancel(Submission.objects.get().run_id)
    again = send(key="one")
    assert (again.status_code, again["Location"], again.json()["state"]) == (200, first["Location"], "cancelled")
    assert send(key="two").json()["state"] == "queued", "another request runs it again"


def test_a_key_stands_for_one_file_and_one_protocol(send: Send) -> None:
    send(key="one")
    for other in ({"number": 1}, {"protocol": "digits-linf"}):
        answer = send(key="one", **other)
        assert answer.status_code == 409
        assert "'one' stands for another file or protocol" in answer.json()["detail"]
    assert Submission.objects.count() == 1


def test_somebody_elses_file_is_not_ones_own(send: Send) -> None:
    send()
    another = tokens.make(User.objects.create_user("eve"), "x", [Scope.SUBMIT], days=1)
    answer = send(by=another)
    assert answer.status_code == 409
    assert "somebody handed in the same file" in answer.json()["detail"]
    assert "Location" not in answer


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [(b"", 400, "has no body"), (b"x" * 2000, 413, "send at most 1000"), (b"nothing like a checkpoint", 400, "upload")],
)
def test_what_is_refused_is_refused_in_a_sentence_and_not_kept(
    send: Send, settings, body: bytes, status: int, sentence: str
) -> None:
    settings.UPLOAD_BYTES = 1000
    answer = send(body=body)
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]
    assert not stored()
    assert not Submission.objects.exists()


def test_a_file_that_cannot_be_converted_here_is_answered_with_how_to_pack_it(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_torch(*args: object, **named: object) -> None:
        raise MeasuringDied("converting upload ended with exit status 1 (No module named 'torch')")

    monkeypatch.setattr(uploads, "receive", no_torch)
    answer = send()
    assert answer.status_code == 503
    assert "run manage.py pack on it" in answer.json()["detail"]
    assert "torch'" not in answer.json()["detail"]


def test_what_is_said_about_a_file_is_kept_with_it(send: Send) -> None:
    said = {"authors": "A, B", "paper": "https://example.org/p", "venue": "ICCV 2021", "extra_data": "generated images"}
    assert send(**said, anonymous="true").status_code == 201
    submission = Submission.objects.get()
    assert {name: getattr(submission, name) for name in said} == said
    assert submission.is_anonymous
    assert submission.consented_at is not None


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"consent": "false"}, "say consent=true: without your consent"),
        ({"paper": "javascript:alert(1)"}, "paper: give a whole address"),
        ({"authors": "a\u202eb"}, "authors: this holds characters that cannot be printed"),
        ({"venue": "x" * 101}, "venue: Ensure this value has at most 100 characters"),
    ],
)
def test_the_api_refuses_what_the_form_refuses(send: Send, said: dict[str, str], sentence: str) -> None:
    answer = send(**said)
    assert answer.status_code == 400
    assert sentence in answer.json()["detail"]
    assert not stored()


def test_wrong_words_are_refused_before_the_file_is_read(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "hand_in", None)
    assert "no protocol is called 'none'" in send(protocol="none").json()["detail"]
    assert send(key="ä").status_code == 422
    assert send(key="x" * 101).status_code == 422


class Broken(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        if not found:
            raise OSError("connection reset")
        return found


def test_a_file_that_arrives_in_part_is_not_kept(client: Client, token: str, tmp_path: Path) -> None:
    content = factory.checkpoint(tmp_path, 0).read_bytes()
    answer = client.generic(
        "POST", "/api/v1/submissions/?title=AT&protocol=digits-demo&consent=true",
        headers={"Authorization": f"Bearer {token}"},
        **{"wsgi.input": Broken(content[:-8]), "CONTENT_LENGTH": str(len(content))},
    )  # fmt: skip
    assert answer.status_code == 400
    assert f"{len(content) - 8} of {len(content)} bytes arrived" in answer.json()["detail"]
    assert not stored()


def test_a_full_disk_is_said_and_nothing_is_left(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(request: object, size: int) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(uploads, "_read", full)
        answer = send()
    assert answer.status_code == 503
    assert "No space left on device); try again later" in answer.json()["detail"]
    assert not stored()
    assert send().status_code == 201


def test_a_token_is_kept_as_its_hash_and_good_for_what_it_is_for_as_long_as_it_is(client: Client, owner: User) -> None:
    text = tokens.make(owner, "laptop", [Scope.READ], days=1)
    kept = Token.objects.get()
    assert len(text) >= len(tokens.PREFIX) + 43, "256 bits"
    assert text not in str(vars(kept))
    assert tokens.find(text) == kept
    kept.refresh_from_db()
    assert kept.last_used_at is not None
    wrong = [{"expires_at": timezone.now() - timedelta(seconds=1)}, {"revoked_at": timezone.now()}]
    for fields in wrong:
        Token.objects.update(expires_at=timezone.now() + timedelta(days=1), revoked_at=None)
        Token.objects.update(**fields)
        assert tokens.find(text) is None
    Token.objects.update(revoked_at=None)
    User.objects.update(is_active=False)
    assert tokens.find(text) is None
    assert tokens.find("rlb_guess") is None


def test_a_token_without_the_scope_does_not_submit(send: Send, owner: User) -> None:
    reading = tokens.make(owner, "script", [Scope.READ], days=1)
    answer = send(by=reading)
    assert answer.status_code == 403
    assert "make one with the scope submit" in answer.json()["detail"]


def test_the_api_knows_no_session(client: Client, owner: User) -> None:
    client.force_login(owner)
    answer = client.post("/api/v1/submissions/?title=AT&protocol=smoke", b"x", content_type="application/octet-stream")
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")


def test_a_token_opens_no_page(client: Client, token: str) -> None:
    assert client.get("/account/tokens/", headers={"Authorization": f"Bearer {token}"}).status_code == 302


def test_a_token_is_shown_once_and_can_be_revoked(client: Client, owner: User, settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one is slow by design
    owner.set_password("a long pass phrase")
    owner.save()
    client.force_login(owner)
    form = {"name": "laptop", "scopes": ["read", "submit"], "days": "30"}
    assert "/account/reauthenticate/" in client.post("/account/tokens/", form)["Location"]
    client.post("/account/reauthenticate/", {"password": "a long pass phrase"})
    page = client.post("/account/tokens/", form)
    text = page.content.decode().partition('<code id="token">')[2].partition("</code>")[0]
    kept = tokens.find(text)
    assert kept is not None
    assert kept.scopes == ["read", "submit"]
    assert "no-store" in page["Cache-Control"]
    assert text not in client.get("/account/tokens/").content.decode()
    client.force_login(User.objects.create_user("eve"))
    assert client.post(f"/account/tokens/{kept.pk}/revoke/").status_code == 404
    client.force_login(owner)
    client.post(f"/account/tokens/{kept.pk}/revoke/")
    assert tokens.find(text) is None


def test_who_has_too_many_submissions_waiting_waits_too(send: Send, settings) -> None:
    settings.QUOTA_PENDING = 2
    assert [send(number).status_code for number in range(3)] == [201, 201, 429]
    assert len(stored()) == 2
    services.cancel(Submission.objects.all()[0].run_id)
    assert send(2).status_code == 201


def test_a_day_has_so_many_submissions_of_which_our_failures_are_none(send: Send, settings) -> None:
    settings.QUOTA_DAILY = 2
    send(0), send(1)
    refused = send(2)
    assert refused.status_code == 429
    assert 86_000 < int(refused["Retry-After"]) <= 86_400
    claim = services.run_store().claim("forger")
    assert claim is not None
    services.run_store().fail(claim, DatasetMissing("the data is not there"))
    services.sweep()
    assert Submission.objects.get(state=State.FAILED).fault == Fault.OPERATOR
    assert send(2).status_code == 201


def test_files_of_one_person_have_a_bound_and_the_sentence_says_it(send: Send, settings) -> None:
    send(0, key="one")
    settings.QUOTA_BYTES = Submission.objects.get().size_bytes + 10
    refused = send(1)
    assert refused.status_code == 429
    assert f"may hold {settings.QUOTA_BYTES}" in refused.json()["detail"]
    assert send(0, key="one").status_code == 200, "a repeated request needs no room"


def test_a_rate_is_counted_for_each_and_forgotten_after_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000_000]
    monkeypatch.setattr(throttling.time, "time", lambda: now[0])
    monkeypatch.setitem(RATES, "api", Rate(2, 60))
    for _ in range(2):
        throttling.count("api", "ada")
    with pytest.raises(TooManyRequests) as refusal:
        throttling.count("api", "ada")
    throttling.count("api", "eve")
    now[0] += refusal.value.seconds
    throttling.count("api", "ada")
    now[0] += 120
    throttling.forget()
    assert not Attempts.objects.exists()


def test_the_api_and_the_forms_answer_429_with_the_time_to_wait(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for action in ("api", "sign-in"):
        monkeypatch.setitem(RATES, action, Rate(1, 10_000_000))
    for ask in (
        lambda: client.get("/api/v1/board?protocol=digits-demo"),
        lambda: client.post("/account/login/", {"login": "ada", "password": "x"}),
    ):
        assert ask().status_code == 200
        refused = ask()
        assert refused.status_code == 429
        assert int(refused["Retry-After"]) > 0
    assert "Too many requests" in refused.content.decode()


@pytest.mark.parametrize(
    "address",
    ["/", "/board.csv", "/board.json", "/analysis/", "/analysis/digits/table-1.csv", "/compare/", "/compare.json"],
)
def test_pages_that_cost_something_are_limited_by_address_and_account_together(
    client: Client, owner: User, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setitem(RATES, "page", Rate(1, 10_000_000))
    assert client.get("/").status_code == 200
    refused = client.get(address)
    assert refused.status_code == 429
    assert int(refused["Retry-After"]) > 0
    assert client.get("/", REMOTE_ADDR="192.0.2.7").status_code == 200
    client.force_login(owner)
    assert client.get("/").status_code == 200
    for free in ("/about/", "/healthz", "/static/leaderboard/site.css"):
        answer = client.get(free)
        assert answer.status_code == 200
        assert answer.getvalue()  # read to its end, a file is closed
    with throttling.unlimited():
        assert client.get("/").status_code == 200


def test_files_that_no_form_asked_for_are_dropped(client: Client) -> None:
    form = {"login": "ada", "password": "x", "file": io.BytesIO(b"x" * 5000)}
    answer = client.post("/account/login/", form)
    assert answer.status_code == 200
    assert not answer.wsgi_request.FILES
