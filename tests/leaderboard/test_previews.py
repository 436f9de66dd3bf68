"""Previews on the site: for their owner and staff, while it is measured, and nowhere else."""

import json
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from evaluator.metrics import StageName
from evaluator.preview import Preview
from evaluator.results import evaluation_to_json
from evaluator.shipped import DIGITS_DEMO, SMOKE
from fixtures.make_tiny import TINY
from leaderboard import dump, reruns, services, tokens
from leaderboard.access import Scope
from leaderboard.models import State, Submission
from leaderboard.watching import status_of
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db

SHOWN = "Robust error on test, estimated"


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    """Return a queued submission of which a preview is wanted."""
    owner = User.objects.create_user("ada")
    path = factory.checkpoint(tmp_path, 0)
    return services.submit(path, title="AT", protocol=DIGITS_DEMO, owner=owner, preview=True)


def previewed(submission: Submission) -> Preview:
    """Measure a submission until its preview stands."""
    while (found := services.run_store().preview(submission.run_id)) is None:
        claim = services.run_store().claim("worker", run_id=submission.run_id)
        services.run_store().finish(claim, factory.report(claim.protocol, claim.spec, quality=0.5, seed=0))
    return found


def seen_by(user: User | None, submission: Submission) -> list[str]:
    client = Client()
    if user is not None:
        client.force_login(user)
    pages = (f"/submissions/{submission.run_id}/", f"/submissions/{submission.run_id}/live")
    return [client.get(page).content.decode() for page in pages]


def stages(submission: Submission) -> set[StageName]:
    return {stage.stage for stage in services.run_store().progress(submission.run_id)}


def test_its_owner_and_staff_alone_see_it_with_its_interval_and_what_it_rests_on(submission: Submission) -> None:
    found = previewed(submission)
    staff = User.objects.create_user("grace", is_staff=True)
    Authenticator.objects.create(user=staff, type=Authenticator.Type.TOTP, data={})
    for user in (submission.owner, staff):
        for page in seen_by(user, submission):
            assert f"{SHOWN}: {100 * found.value:.1f} %" in page
            assert f"[{100 * found.low:.1f}, {100 * found.high:.1f}]" in page
            assert f"From {found.n} test examples" in page
            assert f"{found.sampled} of them under all of AutoAttack" in page
    for stranger in (None, User.objects.create_user("mallory")):
        assert all(SHOWN not in page for page in seen_by(stranger, submission))
    assert status_of(submission, insider=True).preview == found
    assert status_of(submission).preview is None


def test_it_is_on_no_board_and_gives_way_to_the_standard_number(
    submission: Submission, client: Client, tmp_path: Path
) -> None:
    previewed(submission)
    assert submission.title not in client.get("/api/v1/board?protocol=digits-demo").content.decode()
    factory.measure(submission)
    services.publish_run(submission.run_id)
    submission.refresh_from_db()
    assert submission.state == State.PUBLISHED
    status = status_of(submission, insider=True)
    assert status.preview is None
    assert all(SHOWN not in page for page in seen_by(submission.owner, submission))
    entry = submission.entry
    assert StageName.PREVIEW not in {stage["stage"] for stage in entry.stages}
    result = services.run_store().result(submission.run_id)
    assert "preview" not in evaluation_to_json(result)
    assert "preview" not in client.get(submission.get_absolute_url()).content.decode().lower()
    dump.write(tmp_path / "data")
    outcomes = (tmp_path / "data" / "outcomes" / f"{submission.slug}.jsonl").read_text()
    assert '"autoattack"' in outcomes
    assert "preview" not in outcomes


def test_the_examples_of_a_preview_are_not_counted_among_those_of_the_numbers(submission: Submission) -> None:
    previewed(submission)
    status = status_of(submission)
    with_preview = sum(stage.examples for stage in status.stages)
    assert with_preview - status.examples == DIGITS_DEMO.autoattack_examples.test
    assert [stage.state for stage in status.stages][:4] == ["done", "done", "done", "waiting"]


def test_a_preview_that_was_given_up_is_said_to_have_stopped(submission: Submission) -> None:
    store = services.run_store()
    while (claim := store.claim("host:1", run_id=submission.run_id)).spec.stage is not StageName.TRUST:
        if claim.spec.stage is StageName.PREVIEW:
            store.fail(claim, RuntimeError("it burst"))
        else:
            store.finish(claim, factory.report(claim.protocol, claim.spec, quality=0.5, seed=0))
    status = status_of(submission, insider=True)
    assert (status.preview, status.state) == (None, State.RUNNING)
    assert {stage.state for stage in status.stages if stage.stage is StageName.PREVIEW} == {"stopped"}
    assert any("the run goes on without it" in line.text for line in status.log)


def test_a_run_that_failed_shows_none(submission: Submission) -> None:
    previewed(submission)
    services.cancel(submission.run_id)
    assert status_of(submission, insider=True).preview is None


def test_who_asks_by_the_form_gets_one_and_who_does_not_gets_none(tmp_path: Path) -> None:
    client, ada = Client(), User.objects.create_user("ada")
    client.force_login(ada)
    assert 'name="preview"' in client.get("/submit/").content.decode()
    form = {"title": "Tiny", "protocol": "smoke", "extra_data": "not stated", "consent": "on"}
    for name, said in (("with", {"preview": "on"}), ("without", {})):
        with TINY.open("rb") as file:
            protocol = {"protocol": "smoke" if said else "digits-demo"}
            answer = client.post("/submit/", {"file": file, **form, **protocol, **said, "title": name})
        assert answer.status_code == 303
        submission = Submission.objects.get(title=name)
        assert submission.wants_preview is bool(said)
        assert (StageName.PREVIEW in stages(submission)) is bool(said)


def test_the_api_gives_it_to_the_owner_of_the_token(tmp_path: Path) -> None:
    ada, client = User.objects.create_user("ada"), Client()
    bearer = {"Authorization": f"Bearer {tokens.make(ada, 'laptop', [Scope.READ, Scope.SUBMIT], days=7)}"}

    def send(number: int, **wish: str) -> object:
        query = urlencode({"title": "AT", "protocol": "digits-demo", "consent": "true"} | wish)
        content, kind = factory.checkpoint(tmp_path, number).read_bytes(), "application/octet-stream"
        return client.post(f"/api/v1/submissions/?{query}", content, content_type=kind, headers=bearer)

    answer = send(1, preview="true")
    assert (answer.status_code, answer.json()["preview"]) == (201, None)
    submission = Submission.objects.get()
    found = previewed(submission)
    followed = client.get(answer["Location"], headers=bearer).json()
    assert followed["preview"] == {
        "value": found.value, "low": found.low, "high": found.high, "n": found.n, "sampled": found.sampled,
    }  # fmt: skip
    refused = send(2, preview="true", protocol="digits-curve")
    assert refused.status_code == 400
    assert "no robust error on test" in refused.json()["detail"]
    schema = client.get("/api/v1/openapi.json").json()["components"]["schemas"]
    assert set(schema["Preview"]["properties"]) == {"value", "low", "high", "n", "sampled"}


def test_who_waits_at_the_command_reads_it_in_the_line_until_the_number_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(_: float) -> None:
        submission, store = Submission.objects.get(), services.run_store()
        claim = store.claim("worker", run_id=submission.run_id)
        store.finish(claim, factory.report(claim.protocol, claim.spec, quality=0.5, seed=0))
        store.complete(submission.run_id)
        services.sweep()

    monkeypatch.setattr(time, "sleep", work)
    call_command("submit", str(factory.checkpoint(tmp_path, 3)), "--protocol", "smoke", "--preview", "--wait", "--json")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    shown = ["preview: robust error " in line for line in lines]
    assert 0 < sum(shown) < len(lines)
    assert not shown[1]
    assert not shown[-1]
    assert json.loads(out)["preview"] is None


def test_nothing_is_kept_of_a_submission_that_cannot_be_previewed(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="measures no robust error on test"):
        call_command("submit", str(factory.checkpoint(tmp_path, 3)), "--protocol", "digits-curve", "--preview")
    assert not Submission.objects.exists()


def test_a_run_that_was_never_created_and_one_that_is_repeated_have_it_and_a_rerun_of_an_entry_has_not(
    submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.cancel(submission.run_id)
    submission.refresh_from_db()
    assert services.run_again(submission)
    assert StageName.PREVIEW in stages(submission)
    factory.measure(submission)
    services.publish_run(submission.run_id)
    submission.refresh_from_db()
    monkeypatch.setattr(reruns, "find_protocol", lambda _: SMOKE)
    fresh = reruns.rerun(submission, None, "a new version")
    assert fresh is not None
    assert StageName.PREVIEW not in stages(fresh)
