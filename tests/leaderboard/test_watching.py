"""Whoever watches a submission reads what is so: where it stands, what comes next, and whose turn it is to act."""

import itertools
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from evaluator import exceptions
from evaluator.exceptions import DatasetMissing, Fault, InvalidCheckpoint, MeasuringDied
from evaluator.forecast import Forecast
from evaluator.shipped import SMOKE
from evaluator.store import Role
from leaderboard import hints, services
from leaderboard.models import State, Submission
from leaderboard.templatetags.times import ago, foretold
from leaderboard.watching import alias, status_of, without_names
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db
WORKER = "gpu-host.example.org:4711"


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    """Return a queued submission with an owner."""
    submission = factory.submit(tmp_path, protocol=SMOKE)
    submission.owner = User.objects.create_user("owner")
    submission.save()
    return submission


@pytest.fixture
def owner(client: Client, submission: Submission) -> Client:
    """Return the browser of the submission's owner."""
    client.force_login(submission.owner)
    return client


def address(submission: Submission, what: str = "") -> str:
    return f"/submissions/{submission.run_id}/{what}"


def measure(submission: Submission, shards: int = 1000) -> None:
    """Finish shards of a run in small pieces."""
    store = services.run_store()
    for _ in range(shards):
        claim = store.claim(WORKER, run_id=submission.run_id, target_seconds=0.001)
        if claim is None:
            break
        store.finish(claim, factory.report(claim.protocol, claim.spec, quality=0.5, seed=0))


def fail(submission: Submission, error: Exception) -> None:
    store = services.run_store()
    while claim := store.claim(WORKER, run_id=submission.run_id):
        store.fail(claim, error)


def present(name: str = WORKER) -> None:
    services.worker_register().announce(name, Role.EVALUATION, device="NVIDIA H200")


def page(client: Client, submission: Submission) -> str:
    return client.get(address(submission)).content.decode()


def test_examples_are_counted_from_none_to_all_and_never_beyond(submission: Submission) -> None:
    seen = [status_of(submission)]
    while seen[-1].examples_done != seen[-1].examples:
        measure(submission, 1)
        seen.append(status_of(submission))
    done = [status.examples_done for status in seen]
    assert done[0] == 0
    assert done == sorted(set(done))
    assert {status.examples for status in seen} == {seen[0].examples}
    for status in seen:
        assert all(0 <= stage.examples_done <= stage.examples for stage in status.stages)
        assert status.examples_done == sum(stage.examples_done for stage in status.stages)
        assert {stage.state for stage in status.stages} <= {"waiting", "running", "done"}
    assert (seen[-1].state, seen[-1].ended) == (State.RUNNING, False)
    assert {stage.state for stage in seen[-1].stages} == {"done"}


def test_what_happened_has_its_time_and_what_is_to_come_has_none(submission: Submission) -> None:
    def known() -> dict[str, bool]:
        return {milestone.name: milestone.at is not None for milestone in status_of(submission).milestones}

    assert known() == {"submitted": True, "queued": True, "started": False, "measured": False, "published": False}
    factory.measure(submission)
    assert known() == {"submitted": True, "queued": True, "started": True, "measured": True, "published": False}
    services.sweep()
    submission.refresh_from_db()
    assert all(known().values())
    times = [milestone.at for milestone in status_of(submission).milestones if milestone.at]
    assert all(later - earlier > timedelta(seconds=-1) for earlier, later in itertools.pairwise(times))
    services.withdraw(submission)
    assert list(known()) == ["submitted", "queued", "started", "withdrawn"]


def test_the_place_in_the_queue_is_said_until_it_is_measured(tmp_path: Path, submission: Submission) -> None:
    second = factory.submit(tmp_path, number=2, protocol=SMOKE)
    assert [status_of(one).position for one in (submission, second)] == [1, 2]
    measure(submission, 1)
    assert [status_of(one).position for one in (submission, second)] == [None, 2]
    services.cancel(submission.run_id)
    assert [status_of(one).position for one in (submission, second)] == [None, 1]


def test_why_nothing_moves_is_said_and_nothing_is_foretold_meanwhile(submission: Submission) -> None:
    measure(submission, 1)
    assert "No worker measures at present" in str(status_of(submission).obstacle)
    present()
    assert status_of(submission).obstacle is None
    services.worker_register().pause(Role.EVALUATION, "a new driver")
    status = status_of(submission)
    assert (status.obstacle, status.forecast) == ("Evaluation is paused: a new driver", None)


def test_when_it_should_be_done_is_said_once_another_run_of_the_protocol_was_measured(
    tmp_path: Path, submission: Submission
) -> None:
    present()
    second = factory.submit(tmp_path, number=2, protocol=SMOKE)
    assert status_of(second).forecast is None
    measure(submission)
    forecast = status_of(second).forecast
    assert forecast is not None
    assert 0 < forecast.low <= forecast.high
    present("another:2")
    with_two = status_of(second).forecast
    assert with_two is not None
    assert with_two.high == pytest.approx(forecast.high / 2)
    measure(second)
    assert status_of(second).forecast == Forecast(0, 0)


def test_a_failure_says_what_whose_fault_and_what_can_be_done_but_the_log_to_insiders_alone(
    client: Client, submission: Submission
) -> None:
    died = MeasuringDied("the measuring process was killed")
    died.log = "Traceback: out of <b>memory</b>"
    fail(submission, died)
    status = status_of(submission, insider=True)
    assert status.failure is not None
    assert (status.state, status.failure.kind, status.failure.fault) == (State.FAILED, "MeasuringDied", Fault.OURS)
    assert status.failure.log == died.log
    outside = status_of(submission)
    assert outside.failure is not None
    assert outside.failure.log is None
    assert "out of" not in json.dumps(outside.document())
    shown = page(client, submission)
    assert "The evaluation failed because of the software of this board" in shown
    assert "crashed or was killed" in shown
    assert "out of" not in shown
    client.force_login(submission.owner)
    assert "out of &lt;b&gt;memory" in page(client, submission)


@pytest.mark.parametrize("kind", hints._BY_KIND)
def test_every_hint_is_for_an_error_there_is(kind: str) -> None:
    assert issubclass(getattr(exceptions, kind), exceptions.EvaluatorError)


@pytest.mark.parametrize("fault", Fault)
def test_whatever_happens_there_is_a_hint_and_somebody_who_has_to_act(fault: Fault) -> None:
    assert hints.hint(None, fault) == hints.hint("Unheard", fault)
    assert hints.WHOSE[fault]


def test_nobody_learns_the_names_of_hosts_or_the_ids_of_processes(client: Client, submission: Submission) -> None:
    present()
    measure(submission, 1)
    earlier = "0f3c9e1d77aa:52"
    claim = services.run_store().claim(earlier)
    assert claim is not None
    services.run_store().fail(claim, MeasuringDied(f"killed on {earlier}"))
    measure(submission, 1)
    texts = [
        page(client, submission),
        client.get(address(submission, "live")).content.decode(),
        json.dumps(status_of(submission, insider=True).document()),
        client.get("/queue/").content.decode(),
        client.get("/queue/live").content.decode(),
        client.get("/queue.json").content.decode(),
    ]
    for text in texts:
        assert "gpu-host" not in text
        assert "4711" not in text
        assert earlier not in text
        assert alias(WORKER) in text
    assert alias(WORKER) == alias(WORKER) != alias(earlier)
    assert alias(earlier) in texts[0]


@given(st.from_regex(r"[a-z][a-z0-9.-]{0,20}:[0-9]{1,7}", fullmatch=True))
def test_any_worker_is_named_by_its_alias_wherever_a_line_names_it(name: str) -> None:
    line = f"attempt 2 on {name} failed: the worker {name} fell silent"
    expected = f"attempt 2 on {alias(name)} failed: the worker {alias(name)} fell silent"
    assert without_names(line, []) == without_names(line, [name]) == expected
    assert without_names("clean on test examples 0…3 at 12:30", [name]) == "clean on test examples 0…3 at 12:30"


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        (0, 0, "less than a minute"), (10, 59, "less than a minute"), (0, 200, "up to 4 min"),
        (200, 239, "about 4 min"), (120, 290, "2 to 5 min"), (3600, 9000, "60 min to 3 h"),
        (8000, 10000, "about 3 h"), (200_000, 500_000, "3 to 6 d"),
    ],
)  # fmt: skip
def test_a_forecast_is_told_as_a_range_and_no_more_exact_than_it_is(low: float, high: float, told: str) -> None:
    assert foretold(Forecast(low, high)) == told


@pytest.mark.parametrize(("seconds", "told"), [(0, "just now"), (40, "40 s ago"), (150, "3 min ago")])
def test_how_long_ago_something_was(seconds: int, told: str) -> None:
    assert ago(datetime.now(UTC) - timedelta(seconds=seconds)) == told


def test_who_has_seen_how_it_stands_gets_nothing_until_something_changes(
    client: Client, submission: Submission
) -> None:
    live = address(submission, "live?buttons=")
    first = client.get(live)
    assert client.get(live, headers={"if-none-match": first["ETag"]}).status_code == 304
    assert client.get(live, headers={"if-none-match": f'W/{first["ETag"]}, "other"'}).status_code == 304
    measure(submission, 1)
    again = client.get(live, headers={"if-none-match": first["ETag"]})
    assert (again.status_code, again["ETag"] != first["ETag"]) == (200, True)
    assert "no-cache" in again["Cache-Control"]


def test_the_page_asks_again_until_it_has_ended(client: Client, submission: Submission) -> None:
    assert "hx-trigger" in page(client, submission)
    assert 'http-equiv="refresh"' in page(client, submission)
    factory.measure(submission)
    services.sweep()
    for shown in (page(client, submission), client.get(address(submission, "live")).content.decode()):
        assert "hx-trigger" not in shown
        assert "refresh" not in shown
        assert f'href="{submission.get_absolute_url()}"' in shown


def test_the_page_needs_no_inline_script_or_style(owner: Client, submission: Submission) -> None:
    for shown in (page(owner, submission), owner.get("/queue/").content.decode()):
        assert re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=|hx-on|js:", shown) == []


def test_only_the_owner_is_offered_what_only_the_owner_may_do(client: Client, submission: Submission) -> None:
    assert "<form" not in page(client, submission)
    for action in ("cancel", "hide", "withdraw"):
        answer = client.post(address(submission, action))
        assert answer.status_code == 302
        assert "/account/login/" in answer["Location"]
    client.force_login(User.objects.create_user("other"))
    assert "<form" not in page(client, submission)
    assert client.post(address(submission, "withdraw")).status_code == 404
    submission.refresh_from_db()
    assert submission.state == State.QUEUED


def test_nothing_is_done_without_a_token_of_the_page_or_by_a_link(submission: Submission) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(submission.owner)
    assert strict.post(address(submission, "cancel")).status_code == 403
    assert strict.get(address(submission, "cancel")).status_code == 405
    shown = page(strict, submission)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', shown)
    assert token
    answer = strict.post(address(submission, "cancel"), {"csrfmiddlewaretoken": token[1]}, follow=True)
    assert "The run is cancelled." in answer.content.decode()


def offered(client: Client, submission: Submission) -> set[str]:
    return set(re.findall(r'id="action-([\w-]+)"', page(client, submission)))


def done(client: Client, submission: Submission, action: str) -> str:
    answer = client.post(address(submission, action), follow=True)
    submission.refresh_from_db()
    assert answer.redirect_chain == [(address(submission), 302)]
    return answer.content.decode()


def test_an_owner_cancels_runs_again_hides_publishes_and_withdraws(owner: Client, submission: Submission) -> None:
    first = submission.run_id
    assert offered(owner, submission) == {"cancel", "hide", "withdraw"}
    done(owner, submission, "cancel")
    assert offered(owner, submission) == {"run-again", "hide", "withdraw"}
    done(owner, submission, "run-again")
    assert submission.run_id != first
    assert offered(owner, submission) == {"cancel", "hide", "withdraw"}
    assert owner.get(f"/submissions/{first}/")["Location"] == address(submission)
    factory.measure(submission)
    services.sweep()
    assert offered(owner, submission) == {"hide", "withdraw"}
    assert "Measured, and private" in done(owner, submission, "hide")
    assert "robust loss" in page(owner, submission)
    assert offered(owner, submission) == {"publish", "withdraw"}
    assert "Published" in done(owner, submission, "publish")
    assert "Withdrawn on" in done(owner, submission, "withdraw")
    assert offered(owner, submission) == set()
    assert "Nothing was changed" in done(owner, submission, "publish")


@pytest.mark.parametrize(("error", "again"), [(DatasetMissing("no data"), True), (InvalidCheckpoint("no net"), False)])
def test_only_what_failed_without_its_senders_fault_can_be_run_again(
    owner: Client, submission: Submission, error: Exception, again: bool
) -> None:
    fail(submission, error)
    assert ("run-again" in offered(owner, submission)) == again
    first = submission.run_id
    done(owner, submission, "run-again")
    assert (submission.run_id != first) == again


def test_buttons_come_with_the_live_part_only_when_they_have_changed(owner: Client, submission: Submission) -> None:
    shown = page(owner, submission)
    live = re.search(r'hx-get="([^"]+)"', shown)
    assert live
    assert "action-" not in owner.get(live[1]).content.decode()
    services.cancel(submission.run_id)
    assert "action-run-again" in owner.get(live[1]).content.decode()


def test_what_is_private_is_nowhere_to_be_found_for_others(client: Client, submission: Submission) -> None:
    submission.title = "a secret title"
    submission.save()
    services.hide(submission)
    for user in (None, User.objects.create_user("other")):
        if user:
            client.force_login(user)
        assert client.get(address(submission)).status_code == 404
        assert client.get(address(submission, "live")).status_code == 404
        for queue in ("/queue/", "/queue/live", "/queue.json"):
            shown = client.get(queue).content.decode()
            assert "a secret title" not in shown
            assert str(submission.run_id) not in shown
    client.force_login(submission.owner)
    assert "a secret title" in page(client, submission)


def test_an_address_of_no_run_or_action_leads_nowhere(owner: Client, submission: Submission) -> None:
    assert owner.get("/submissions/00000000-0000-4000-8000-000000000000/").status_code == 404
    assert owner.post(address(submission, "explode")).status_code == 404


def test_a_run_store_that_is_away_is_said_and_hides_nothing_else(
    client: Client, submission: Submission, elsewhere: Any
) -> None:
    with elsewhere("postgresql://runs:secret@127.0.0.1:1/runs"):
        shown = page(client, submission)
        assert "does not answer at present" in shown
        assert "secret" not in shown
        assert "does not answer" in client.get("/queue/").content.decode()
        assert client.get("/queue.json").status_code == 503


def test_the_queue_shows_what_waits_in_turn_who_works_and_what_is_paused(
    client: Client, tmp_path: Path, submission: Submission
) -> None:
    factory.published(tmp_path, number=7, protocol=SMOKE)
    second = factory.submit(tmp_path, "Second", number=2, protocol=SMOKE)
    services.run_store().prioritise(second.run_id, 5)
    present()
    services.worker_register().pause(Role.TRAINING, "the <disk> is full")
    document = client.get("/queue.json").json()
    assert [run["title"] for run in document["waiting"]] == ["Second", "AT"]
    assert document["submissions"] == dict.fromkeys(State.values, 0) | {"queued": 2, "published": 1}
    assert [(one["device"], one["state"]) for one in document["workers"]] == [("NVIDIA H200", "idle")]
    assert [(one["role"], one["reason"]) for one in document["pauses"]] == [("training", "the <disk> is full")]
    (typical,) = document["typical"]
    assert (typical["protocol"], typical["runs"]) == (SMOKE.label, 1)
    assert all(seconds > 0 for seconds in typical["seconds"].values())
    assert 0 < document["forecast"]["low"] <= document["forecast"]["high"]
    shown = client.get("/queue/").content.decode()
    assert shown.index("Second") < shown.index(f"/submissions/{submission.run_id}/")
    assert "the &lt;disk&gt; is full" in shown


def test_the_queue_takes_as_many_queries_for_many_as_for_one(
    client: Client, tmp_path: Path, submission: Submission, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(2):
        client.get("/queue/")
    for number in range(3):
        factory.submit(tmp_path, number=number, protocol=SMOKE)
    with django_assert_num_queries(2):
        client.get("/queue/")


def submitted(*arguments: str) -> Submission:
    call_command("submit", *arguments)
    return Submission.objects.get()


def test_a_file_is_submitted_under_the_name_it_has_for_the_owner_it_has(tmp_path: Path) -> None:
    owner = User.objects.create_user("ann")
    submission = submitted(str(factory.checkpoint(tmp_path, 3)), "--protocol", "smoke", "--owner", "ann")
    assert (submission.title, submission.owner, submission.state) == ("3", owner, State.QUEUED)


def test_what_is_said_about_a_file_by_the_command_is_kept_with_it(tmp_path: Path) -> None:
    said = {"authors": "A, B", "paper": "https://example.org/p", "venue": "ICCV 2021", "extra-data": "none"}
    options = [part for name, value in said.items() for part in (f"--{name}", value)]
    submission = submitted(
        str(factory.checkpoint(tmp_path, 3)), "--protocol", "smoke", "--private", "--anonymous", "--consent", *options
    )
    assert [getattr(submission, name.replace("-", "_")) for name in said] == list(said.values())
    assert (submission.is_private, submission.is_anonymous) == (True, True)
    assert submission.consented_at is not None


def test_a_file_without_a_manifest_is_submitted_as_the_network_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    safetensors.numpy.save_file({"weight": np.ones(8, dtype=np.float32)}, path)
    with pytest.raises(CommandError, match="does not say what network it is for"):
        submitted(str(path), "--protocol", "smoke")
    network = ("--architecture", "digits-cnn", "--options", '{"width": 8}')
    manifest = submitted(str(path), "--protocol", "smoke", "--title", "Bare", *network).manifest
    assert (manifest["architecture"], manifest["dataset"], manifest["options"]["width"]) == ("digits-cnn", "digits", 8)


def test_who_waits_reads_how_it_stands_until_it_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(_: float) -> None:
        submission = Submission.objects.get()
        measure(submission, 3)
        services.run_store().complete(submission.run_id)
        services.sweep()

    monkeypatch.setattr(time, "sleep", work)
    submission = submitted(str(factory.checkpoint(tmp_path, 3)), "--protocol", "smoke", "--wait", "--json")
    out, err = capsys.readouterr()
    assert json.loads(out) == status_of(submission).document()
    lines = err.splitlines()
    assert f"/submissions/{submission.run_id}/" in lines[0]
    assert lines[1].startswith("queued, place 1 in the queue, 0 of ")
    assert lines[2].startswith("running, 12 of ")
    assert lines[-1].startswith("published, ")


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        (lambda one: fail(one, InvalidCheckpoint("the network is not one")), "the network is not one\n.*corrected"),
        (lambda one: services.cancel(one.run_id), "the submission is cancelled"),
        (services.withdraw, "the submission is withdrawn"),
    ],
)
def test_who_waits_in_vain_hears_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Callable[[Submission], None], sentence: str
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: end(Submission.objects.get()))
    with pytest.raises(CommandError, match=sentence):
        submitted(str(factory.checkpoint(tmp_path, 3)), "--protocol", "smoke", "--wait")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--protocol", "none"], "no protocol is called 'none'"),
        (["--protocol", "smoke", "--owner", "nobody"], "no user is called 'nobody'"),
        (["--protocol", "smoke", "--architecture", "digits-cnn", "--options", "8x"], "--options is no JSON"),
        (["--protocol", "smoke", "--architecture", "digits-resnet"], "3.safetensors says that it is"),
        (["--protocol", "cifar10-linf"], "3.safetensors was made for digits"),
        (["--protocol", "smoke", "--paper", "ftp://example.org"], "paper: give a whole address"),
    ],
)
def test_what_cannot_be_submitted_is_refused_in_a_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command("submit", str(factory.checkpoint(tmp_path, 3)), *arguments)
    assert not Submission.objects.exists()
