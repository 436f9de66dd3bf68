"""Staff queues trainings by a form, follows them and cancels one; what is done comes in through the ordinary door."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.test import Client

from evaluator.exceptions import DatasetMissing
from evaluator.store import ShardState, TrainingStore
from leaderboard import services
from leaderboard.models import StaffAct, Submission
from tests.leaderboard.test_training_queue import finish
from trainers import worker
from trainers.orders import orders
from trainers.recipe import load_recipe

pytestmark = pytest.mark.django_db

ASKED = {"recipe": "digits/awp", "changes": "", "seed": "0", "count": "1", "protocol": "", "reason": "Table 1"}


@pytest.fixture
def staff(client: Client) -> Client:
    user = User.objects.create_user("staff", is_staff=True)
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={})
    client.force_login(user)
    return client


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainingStore]:
    monkeypatch.setattr(worker, "nudge", lambda: None)
    yield services.training_store()
    services.training_store().close()


def acts() -> list[tuple[str, str, str, str]]:
    return list(StaffAct.objects.order_by("pk").values_list("actor", "what", "subject", "reason"))


def test_what_the_form_asks_for_is_queued_as_the_command_queues_it(staff: Client, store: TrainingStore) -> None:
    changes = "stepper.gamma=0.02"
    answer = staff.post("/train/", ASKED | {"changes": changes, "seed": "5", "count": "2"}, follow=True)
    assert "Queued 2 trainings for 2 new entries." in answer.content.decode()
    wanted = orders([load_recipe(f"digits/awp {changes}")], seed=5, count=2)
    assert [(one.digest, one.seed) for one in store.trainings()] == [(one.digest, one.seed) for one in wanted]
    assert acts() == [("staff", "train", f"digits/awp {changes}, seed 5 to 6", "Table 1")]
    again = staff.post("/train/", ASKED | {"changes": changes, "seed": "5", "count": "2"}, follow=True)
    assert "Nothing is new" in again.content.decode()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"recipe": "digits/none"}, "Select a valid choice"),
        ({"changes": "epochs"}, "a change is written key=value"),
        ({"changes": "epochs=soon"}, "recipe digits/awp epochs=soon, epochs"),
        ({"changes": "stepper.gama=1"}, "did you mean &#x27;gamma&#x27;?"),
        ({"changes": "'"}, "quote them as for a shell"),
        ({"seed": "-1"}, "greater than or equal to 0"),
        ({"seed": str(2**32)}, "less than or equal to"),
        ({"count": "0"}, "greater than or equal to 1"),
        ({"count": "101"}, "less than or equal to 100"),
        ({"protocol": "cifar10-linf"}, "but cifar10-linf v1 measures on cifar10"),
        ({"reason": " "}, "This field is required"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_with_a_sentence(
    staff: Client, store: TrainingStore, changed: dict[str, str], sentence: str
) -> None:
    answer = staff.post("/train/", ASKED | changed)
    assert answer.status_code == 400
    assert sentence in answer.content.decode()
    assert (store.trainings(), acts()) == ((), [])


def test_the_list_says_how_far_each_is_and_why_one_failed_and_json_says_the_same(
    staff: Client, store: TrainingStore
) -> None:
    assert "Nothing was ever queued" in staff.get("/train/").content.decode()
    staff.post("/train/", ASKED | {"count": "3"})
    failed, running = store.claim("gpu 4"), store.claim("gpu 3")
    assert failed is not None
    assert running is not None
    store.fail(failed, DatasetMissing("digits are <not> there"))
    store.advance(running, 7)
    shown = staff.get("/train/").content.decode()
    epochs = load_recipe("digits/awp").epochs
    assert f"7 of {epochs}" in shown
    assert "operator: digits are &lt;not&gt; there" in shown
    document = staff.get("/train.json").json()
    assert [(one["seed"], one["state"], one["epochs_done"], one["worker"]) for one in document["trainings"]] == [
        (1, "running", 7, "gpu 3"), (2, "queued", 0, None), (0, "failed", 0, "gpu 4")
    ]  # fmt: skip
    assert document["total"] == 3


def test_a_training_is_cancelled_for_a_reason_and_goes_on_when_it_is_queued_again(
    staff: Client, store: TrainingStore
) -> None:
    staff.post("/train/", ASKED)
    (training,) = store.trainings()
    address = f"/train/{training.digest}/{training.seed}/cancel"
    assert "say why" in staff.post(address, follow=True).content.decode()
    assert store.trainings()[0].state is ShardState.QUEUED
    assert "is cancelled" in staff.post(address, {"reason": "too long"}, follow=True).content.decode()
    assert store.trainings()[0].state is ShardState.FAILED
    for gone in (address, "/train/none/0/cancel"):
        assert "no such training" in staff.post(gone, {"reason": "again"}, follow=True).content.decode()
    staff.post("/train/", ASKED)
    assert store.trainings()[0].state is ShardState.QUEUED
    assert [what for _, what, _, _ in acts()] == ["train", "cancel training", "train"]


def test_what_was_trained_comes_in_as_a_reference_entry(staff: Client, store: TrainingStore, tmp_path: Path) -> None:
    staff.post("/train/", ASKED | {"protocol": "digits-demo"})
    finish(tmp_path)
    services.sweep()
    submission = Submission.objects.get()
    assert (submission.is_reference, submission.protocol_name) == (True, "digits-demo")
    assert submission.title == load_recipe("digits/awp").title
