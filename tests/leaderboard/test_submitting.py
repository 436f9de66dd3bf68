"""People hand in checkpoints by a form, which says at the field what is wrong, and decide who may read what of it."""

import errno
import io
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
import torch
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from safetensors.torch import load_file, save_file

from evaluator.architectures import ARCHITECTURES
from evaluator.artifacts import Artifacts
from evaluator.checkpoint_file import open_checkpoint
from evaluator.environment import read_environment
from evaluator.shipped import SMOKE
from leaderboard import form_files, services, submit_form
from leaderboard.actions import ACTIONS
from leaderboard.architecture_forms import OptionsForm
from leaderboard.details import Details
from leaderboard.listing import listing, stamps
from leaderboard.models import State, Submission
from leaderboard.watching import status_of
from tests.leaderboard import factory
from tests.test_house import ROOT

pytestmark = pytest.mark.django_db

TINY = ROOT / "fixtures" / "tiny.safetensors"
FILLED = {"title": "Tiny", "protocol": "smoke", "extra_data": "not stated", "consent": "on"}
KNOWN = "handed in under this protocol before"

Send = Callable[..., HttpResponse]


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("countess")


@pytest.fixture
def send(ada: User) -> Send:
    def send(
        file: bytes | IO[bytes] | None = None, *, by: User = ada, headers: dict[str, str] | None = None, **said: str
    ):
        content = io.BytesIO(file) if isinstance(file, bytes) else file or TINY.open("rb")
        client = Client()
        client.force_login(by)
        with content:
            form = {name: value for name, value in (FILLED | said).items() if value}
            return client.post("/submit/", {"file": content, **form}, headers=headers or {})

    return send


def errors(answer: HttpResponse) -> dict[str, list[str]]:
    return answer.context["form"].errors


def nothing_is_kept() -> bool:
    root = Path(read_environment().artifacts_url)
    return not Submission.objects.exists() and (not root.exists() or not any(root.iterdir()))


def bare(folder: Path) -> Path:
    """Write the fixture as safetensors that do not say what they are for."""
    path = folder / "bare.safetensors"
    save_file(load_file(TINY), path)
    return path


def test_a_file_is_handed_in_and_its_page_follows(send: Send, ada: User) -> None:
    answer = send(authors="A. Lovelace", paper="https://example.org/paper", venue="ICLR", extra_data="none")
    submission = Submission.objects.get()
    assert (answer.status_code, answer["Location"]) == (303, f"/submissions/{submission.run_id}/")
    assert (submission.title, submission.owner, submission.state) == ("Tiny", ada, State.QUEUED)
    assert (submission.authors, submission.venue, submission.extra_data) == ("A. Lovelace", "ICLR", "none")
    assert submission.consented_at is not None
    assert Artifacts(read_environment().artifacts_url).exists(submission.checkpoint_sha256)
    assert Client().get(answer["Location"]).status_code == 200


def test_a_script_is_told_where_to_go(send: Send) -> None:
    answer = send(headers={"Accept": "application/json"})
    assert (answer.status_code, answer["Location"]) == (201, f"/submissions/{Submission.objects.get().run_id}/")


def test_the_form_names_every_protocol_architecture_and_option(client: Client, ada: User) -> None:
    assert client.get("/submit/").headers["Location"] == "/account/login/?next=/submit/"
    client.force_login(ada)
    page = client.get("/submit/").content.decode()
    for architecture in ARCHITECTURES.values():
        assert f'<option value="{architecture.name}">{architecture.title}</option>' in page
        for option in architecture.options.model_fields:
            assert f'name="{architecture.name}-{option}"' in page


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_options_left_as_they_are_shown_are_the_architectures_own(architecture) -> None:
    shown = OptionsForm(architecture)
    sent = OptionsForm(architecture, {shown.add_prefix(name): str(shown[name].initial) for name in shown.fields})
    assert sent.is_valid()
    assert architecture.options.model_validate(sent.cleaned_data) == architecture.options()


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_a_file_that_does_not_say_what_it_is_for_is_what_its_sender_chose(
    send: Send, tmp_path: Path, kind: str
) -> None:
    file = io.BytesIO()
    torch.save(load_file(TINY), file)
    content = file.getvalue() if kind == "pt" else bare(tmp_path).read_bytes()
    assert "does not say what network it is for" in errors(send(content))["file"][0]
    chosen = {"architecture": "digits-cnn", "digits-cnn-width": "8", "digits-cnn-activation": "relu"}
    assert send(content, **chosen | {"resnet-depth": "not even a number"}).status_code == 303
    (kept,) = Path(read_environment().artifacts_url).iterdir()
    assert open_checkpoint(kept).manifest.options == {"width": 8, "activation": "relu"}


def test_a_file_is_not_what_it_says_it_is_not(send: Send) -> None:
    chosen = {"architecture": "digits-cnn", "digits-cnn-width": "16", "digits-cnn-activation": "relu"}
    assert "but digits-cnn(width=16, activation=relu) for digits was asked for" in errors(send(**chosen))["file"][0]
    assert nothing_is_kept()


@pytest.mark.parametrize(
    ("said", "field", "sentence"),
    [
        ({"consent": ""}, "consent", "without your consent"),
        ({"title": ""}, "title", "required"),
        ({"title": "a\u202eb"}, "title", "cannot be printed"),
        ({"title": "x" * 101}, "title", "at most 100"),
        ({"protocol": "none"}, "protocol", "none is not one of the available choices"),
        ({"protocol": "cifar10-linf"}, "file", "was made for digits, but"),
        ({"paper": "javascript:alert(1)"}, "paper", "begins with https"),
        ({"paper": "ftp://example.org/paper"}, "paper", "begins with https"),
        ({"extra_data": "everything"}, "extra_data", "everything is not one of"),
        ({"architecture": "resnet9000"}, "architecture", "resnet9000 is not one of"),
        ({"architecture": "digits-cnn", "digits-cnn-width": "999"}, "architecture", "correct its options"),
    ],
)
def test_a_refusal_stands_at_its_field_and_nothing_is_kept(
    send: Send, said: dict[str, str], field: str, sentence: str
) -> None:
    answer = send(**said)
    assert answer.status_code == 400
    assert list(errors(answer)) == [field]
    assert sentence in errors(answer)[field][0]
    assert nothing_is_kept()


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (b"", 400, "the file is empty"),
        (b"nothing like a checkpoint", 400, "upload"),
        (b"x" * 1001, 413, "more than 1000 bytes"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(
    send: Send, settings, content: bytes, status: int, sentence: str
) -> None:
    settings.UPLOAD_BYTES = 1000
    answer = send(content)
    assert answer.status_code == status
    assert sentence in errors(answer)["file"][0]
    assert 'value="Tiny"' in answer.content.decode(), "what was written is still there"
    assert nothing_is_kept()


def test_no_file_is_no_submission(client: Client, ada: User) -> None:
    client.force_login(ada)
    assert errors(client.post("/submit/", FILLED)) == {"file": ["choose a file"]}
    with TINY.open("rb") as file:
        another = client.post("/submit/", FILLED | {"another": file})
    assert errors(another) == {"file": ["choose a file"]}, "no other field takes files"


def test_a_full_disk_is_said_and_nothing_is_left(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, content: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(form_files.Path, "open", lambda path, mode: Full())
        patch.setattr(submit_form, "find_protocol", lambda name: SMOKE)
        answer = send(io.BytesIO(b"some bytes"))
    assert answer.status_code == 503
    assert "No space left on device); try again later" in errors(answer)["file"][0]
    assert nothing_is_kept()


def test_whoever_handed_in_enough_is_told_before_and_after(send: Send, settings, client: Client, ada: User) -> None:
    settings.QUOTA_PENDING = 1
    assert send().status_code == 303
    client.force_login(ada)
    assert "You cannot hand in anything now: 1 of your submissions" in client.get("/submit/").content.decode()
    answer = send(b"whatever this is, it is not looked at")
    assert answer.status_code == 429
    assert "as many as one person may have" in errors(answer)["file"][0]


def test_a_form_that_another_site_sends_is_refused(ada: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    with TINY.open("rb") as file:
        assert client.post("/submit/", FILLED | {"file": file}).status_code == 403
    assert nothing_is_kept()


def test_the_same_again_leads_to_where_it_is(send: Send) -> None:
    first, again = send(), send(title="another title")
    assert (again.status_code, again["Location"]) == (303, first["Location"])
    assert Submission.objects.get().title == "Tiny"
    page = again.client.get(again["Location"]).content.decode()
    assert KNOWN in page


def test_somebody_elses_public_file_leads_to_it_and_a_private_one_tells_nothing(send: Send) -> None:
    eve = User.objects.create_user("eve")
    first = send(title="zanzibar")
    assert send(by=eve)["Location"] == first["Location"]
    services.hide(Submission.objects.get())
    answer = send(by=eve)
    assert answer.status_code == 409
    assert "it is measured once" in errors(answer)["file"][0]
    known = Submission.objects.get()
    for trace in ("zanzibar", known.slug, str(known.run_id), known.checkpoint_sha256):
        assert trace not in answer.content.decode() + str(answer.headers)


def test_a_private_one_is_for_its_owner(send: Send, client: Client, ada: User) -> None:
    address = send(is_private="on")["Location"]
    assert client.get(address).status_code == 404
    client.force_login(ada)
    assert client.get(address).status_code == 200


def test_authors_of_an_anonymous_one_are_read_by_its_owner_until_they_are_revealed(
    send: Send, client: Client, ada: User
) -> None:
    send(authors="A. Lovelace", paper="https://example.org/paper", is_anonymous="on")
    submission = Submission.objects.get()
    addresses = [submission.get_absolute_url(), f"/submissions/{submission.run_id}/"]
    for address in addresses:
        page = client.get(address).content.decode()
        assert "Lovelace" not in page
        assert "example.org" not in page
        assert "countess" not in page
    client.force_login(ada)
    assert "Lovelace" in client.get(addresses[0]).content.decode()
    assert ACTIONS["reveal"].offered(status_of(submission))
    client.post(f"{addresses[1]}reveal")
    client.logout()
    page = client.get(addresses[0]).content.decode()
    assert "<dd>A. Lovelace</dd>" in page
    assert '<a href="https://example.org/paper" rel="nofollow noopener ugc">' in page
    assert not services.reveal(submission), "there is nothing more to reveal"


def test_what_is_said_cannot_become_markup(send: Send, client: Client) -> None:
    send(title="<b>bold</b>", authors="<script>alert(1)</script>", venue="<i>")
    page = client.get(Submission.objects.get().get_absolute_url()).content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "<b>bold" not in page


def test_the_board_knows_the_extra_data_that_was_stated(tmp_path: Path) -> None:
    submission = factory.published(tmp_path)
    Submission.objects.filter(pk=submission.pk).update(extra_data="generated images")
    protocol = factory.DIGITS_DEMO
    (row,) = listing(protocol, stamps()).rows
    assert (row.extra_data, row.facets["data"]) == ("generated images", "generated images")


def test_nothing_is_said_where_nothing_was_stated(tmp_path: Path, ada: User) -> None:
    submission = factory.submit(tmp_path)
    assert Details(**{name: getattr(submission, name) for name in Details.__dataclass_fields__}) == Details()
