"""What is published of a training, found by recipe and seed: its curves, and the early-stopped error on the board."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from django.test import Client

from evaluator.shipped import DIGITS_CURVE, DIGITS_DEMO, DIGITS_LINF, DIGITS_STOPPED, SMOKE, STUTZ2021_STOPPED
from leaderboard import listing, selectors, services
from leaderboard.columns import EARLY_STOPPED, columns_of, stopped_of
from leaderboard.models import Entry, Measurement, State, Submission
from leaderboard.trainings import Origin
from tests.leaderboard import crowd, factory

pytestmark = pytest.mark.django_db

KEY = EARLY_STOPPED.key
EPOCHS = (20, 60, 120)


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: test_curves draws."""
    monkeypatch.setattr("leaderboard.curve_views.curves_svg", lambda curves: f"<svg>{curves.kind}</svg>")


def followed(name: str = "digits/at", **changes) -> list[Submission]:
    """Publish a training's snapshots, then its end."""
    snapshots = [crowd.trained(name, DIGITS_CURVE, epoch=e, value=0.3 + e / 1000, **changes) for e in EPOCHS]
    return [*snapshots, crowd.trained(name, DIGITS_DEMO, epoch=120, value=0.5, **changes)]


def stopped(name: str = "digits/at", value: float = 0.4, **changes) -> Submission:
    return crowd.trained(name, DIGITS_STOPPED, epoch=63, value=value, **changes)


def published() -> list[Submission]:
    return list(Submission.objects.filter(entry__isnull=False))


def page(client: Client, submission: Submission) -> str:
    response = client.get(submission.get_absolute_url())
    assert response.status_code == 200
    return response.content.decode()


def table(client: Client, address: str) -> list[dict[str, str]]:
    response = client.get(address)
    assert response.status_code == 200
    return list(csv.DictReader(io.StringIO(response.content.decode())))


def early_stopped(submission: Submission) -> float | None:
    rows = {row.slug: row for row in listing.listing(DIGITS_DEMO, listing.stamps()).rows}
    return rows[submission.slug].numbers[KEY].value if KEY in rows[submission.slug].numbers else None


def test_a_training_is_recipe_and_seed_whichever_recipe_and_protocol_its_checkpoints_name() -> None:
    *_, end = followed()
    same = [crowd.trained("digits/at-early-stopped", DIGITS_DEMO, epoch=63), stopped()]
    followed("digits/trades")
    followed(seed=1)
    (training,) = selectors.trainings([end])
    assert training is not None
    assert [one.origin.epoch for one in training.snapshots] == [*EPOCHS, 120, 63, 63]
    assert {one.slug for one in same} <= {one.slug for one in training.snapshots}
    assert selectors.trainings([end, same[0]]) == [training, training]


def test_what_strangers_say_of_their_checkpoints_is_no_training() -> None:
    *_, end = followed()
    forged = crowd.trained("digits/at", DIGITS_CURVE, epoch=40, is_reference=False)
    assert selectors.trainings([forged]) == [None]
    (training,) = selectors.trainings([end])
    assert forged.slug not in {one.slug for one in training.snapshots}
    stranger = stopped(is_reference=False)
    assert early_stopped(end) is None
    assert stranger.entry.robust_on_test


@pytest.mark.parametrize("notes", [{}, {"epoch": "12", "seed": "0"}, {"epoch": "12 of 120", "seed": "x"}])
def test_notes_that_do_not_say_all_of_it_are_of_no_training(notes: dict[str, str]) -> None:
    assert Origin.of({"recipe": "digits/at", "notes": {"recipe_digest": "0" * 64, **notes}}) is None


def test_the_page_shows_the_curves_of_its_training_and_leads_to_every_snapshot_and_back(client: Client) -> None:
    *snapshots, end = followed()
    early = stopped()
    for one in (end, snapshots[1], early):
        shown = page(client, one)
        assert shown.count("<svg>") == 2
        assert f"this is the network after epoch {one.manifest['notes']['epoch']}" in shown
        assert re.search(rf'href="{one.get_absolute_url()}"[^>]* aria-current="page"', shown)
        for other in (*snapshots, end, early):
            assert f'href="{other.get_absolute_url()}"' in shown
    assert "Robust loss on test is lowest after epoch 20: 0.32 [0.31, 0.33]; after epoch 120 it is 0.42" in shown


@pytest.mark.parametrize("figure", ["robust-overfitting", "flatness"])
def test_the_file_of_a_figure_holds_its_numbers_with_their_intervals(client: Client, figure: str) -> None:
    *_, end = followed()
    stopped()
    rows = table(client, f"{end.get_absolute_url()}training/{figure}.csv")
    column = {"robust-overfitting": "robust_loss_test", "flatness": "flatness_train"}[figure]
    found = [[float(row[column + e]) for e in ("", "_low", "_high", "_n")] for row in rows if row[column]]
    assert found == [pytest.approx([v, v - 0.01, v + 0.01, 100]) for v in (0.32, 0.36, 0.42)]
    if figure == "robust-overfitting":
        attacked = [(row["epoch"], float(row["robust_error_test"])) for row in rows if row["robust_error_test"]]
        assert attacked == [("63", 0.4), ("120", 0.5)]


def test_the_page_names_the_specification_that_makes_its_drawing_live(client: Client) -> None:
    *_, end = followed()
    specifications = re.findall(r'data-specification="([^"]+)"', page(client, end))
    assert len(specifications) == 2
    for address in specifications:
        spec = client.get(address).json()
        assert spec["usermeta"]["series"] == ["test", "train"]
        assert {row["url"] for row in spec["datasets"]["rows"]} <= {one.get_absolute_url() for one in published()}


def test_nothing_is_shown_where_there_is_nothing(client: Client, tmp_path: Path) -> None:
    alone = crowd.trained("digits/awp", DIGITS_DEMO, epoch=120)
    handed_in = factory.published(tmp_path, protocol=SMOKE)
    for one in (alone, handed_in):
        assert "Its training" not in page(client, one)
        assert client.get(f"{one.get_absolute_url()}training/flatness.svg").status_code == 404
    once = crowd.trained("digits/awp", DIGITS_CURVE, epoch=20)
    assert "Its training" in page(client, once)
    assert "<svg>" not in page(client, once)
    *_, end = followed()
    for nonsense in ("beauty.svg", "flatness.pdf", "flatness.svg?theme=beauty"):
        assert client.get(f"{end.get_absolute_url()}training/{nonsense}").status_code == 404


GONE = (services.hide, services.withdraw, lambda one: services.suspend(one, "a reason"))


@pytest.mark.parametrize("change", GONE, ids=["private", "withdrawn", "suspended"])
def test_a_snapshot_that_is_not_public_shows_nowhere(client: Client, change) -> None:
    *snapshots, end = followed()
    *_, other = followed("digits/awp")
    early = stopped()
    query = f"e={end.slug}&e={other.slug}"
    addresses = [
        end.get_absolute_url(), f"{end.get_absolute_url()}training/robust-overfitting.csv",
        f"/api/v1/entries/{end.slug}/", "/", "/board.csv?columns=all", f"/compare/?{query}", f"/compare.json?{query}",
        f"/figures/training/robust-overfitting.csv?{query}",
    ]  # fmt: skip
    shown = "".join(client.get(address).content.decode() for address in addresses)
    assert all(one.slug in shown for one in (snapshots[1], early))
    assert early_stopped(end) == 0.4
    for gone in (snapshots[1], early):
        assert change(gone)
    for address in addresses:
        response = client.get(address)
        assert response.status_code == 200
        for gone in (snapshots[1], early):
            assert gone.slug not in response.content.decode(), address
    assert early_stopped(end) is None
    assert "after epoch 60" not in page(client, end)


def test_the_early_stopped_error_is_that_of_the_snapshot_under_the_other_protocol(client: Client) -> None:
    *_, end = followed()
    assert early_stopped(end) is None
    stopped()
    assert early_stopped(end) == 0.4
    (row,) = table(client, "/board.csv?columns=all")
    assert [float(row[KEY + e]) for e in ("", "_low", "_high", "_n")] == pytest.approx([0.4, 0.39, 0.41, 100])
    number = {"value": 0.4, "low": pytest.approx(0.39), "high": pytest.approx(0.41), "n": 100}
    (listed,) = client.get("/board.json").json()["entries"]
    assert listed["numbers"][KEY] == number
    assert client.get("/api/v1/board").json()["entries"][0]["numbers"][KEY] == number
    assert client.get(f"/api/v1/entries/{end.slug}/").json()["numbers"][KEY] == number
    board, entry = client.get("/").content.decode(), page(client, end)
    for shown in (board, entry):
        assert '<data value="0.4">40.0</data><span class="interval">[39.0, 41.0]' in shown
    assert "RErr early-stopped" in board
    assert "early-stopped robust error" in entry


def test_the_snapshot_that_was_chosen_shows_its_own_error_and_lends_it_to_its_training() -> None:
    *_, end = followed()
    chosen = crowd.trained("digits/at", DIGITS_DEMO, epoch=63, value=0.45)
    assert [early_stopped(one) for one in (end, chosen)] == [0.45, 0.45]
    stopped(value=0.4)
    assert [early_stopped(one) for one in (end, chosen)] == [0.4, 0.45]
    for one in (end, chosen):
        (training,) = selectors.trainings([one])
        assert selectors.numbers(one.entry, training)[KEY].value == early_stopped(one)


def test_a_snapshot_that_no_recipe_chooses_is_not_early_stopped() -> None:
    *_, end = followed("digits/trades")
    other = crowd.trained("digits/trades", DIGITS_DEMO, epoch=63, value=0.45)
    assert [early_stopped(one) for one in (end, other)] == [None, None]


def test_other_seeds_and_recipes_do_not_lend_their_error() -> None:
    *_, end = followed()
    stopped(seed=1)
    stopped("digits/trades")
    assert early_stopped(end) is None


def test_what_was_published_last_counts() -> None:
    *_, end = followed()
    first = stopped(value=0.4)
    stopped(value=0.35)
    assert early_stopped(end) == 0.35
    Submission.objects.filter(pk=first.pk).update(published_at=end.published_at.replace(year=2030))
    first.refresh_from_db()
    first.save()
    assert early_stopped(end) == 0.4


def test_the_board_sees_every_change_of_the_other_protocols_entries() -> None:
    *_, end = followed()
    early = stopped()
    before = [early_stopped(end)]
    Measurement.objects.filter(entry__submission=early).update(value=0.2)
    early.save()
    before.append(early_stopped(end))
    Entry.objects.filter(submission=early).delete()
    before.append(early_stopped(end))
    assert before == [0.4, 0.2, None]


def test_the_board_sorts_by_it_and_those_without_stand_last(client: Client) -> None:
    ends = {name: followed(f"digits/{name}")[-1] for name in ("at", "trades", "awp")}
    for name, value in (("at", 0.4), ("awp", 0.3)):
        stopped(f"digits/{name}", value=value)
    for sign, order in (("", ("awp", "at", "trades")), ("-", ("at", "awp", "trades"))):
        rows = table(client, f"/board.csv?sort={sign}{KEY}")
        assert [row["slug"] for row in rows] == [ends[name].slug for name in order]


def test_only_boards_of_studies_have_the_column_and_only_equal_attacks_count() -> None:
    assert KEY in columns_of(DIGITS_DEMO)
    assert stopped_of(DIGITS_DEMO) == (DIGITS_STOPPED,)
    for protocol in (DIGITS_LINF, DIGITS_CURVE, DIGITS_STOPPED, STUTZ2021_STOPPED, SMOKE):
        assert columns_of(protocol) == protocol.columns()
    other = replace(DIGITS_DEMO, version=2, autoattack=replace(DIGITS_DEMO.autoattack, seed=1))
    assert stopped_of(other) == ()
    assert stopped_of(replace(DIGITS_DEMO, version=2, seed=1)) == (DIGITS_STOPPED,)


def test_compared_entries_share_a_frame_and_entries_of_one_training_a_line(client: Client) -> None:
    *_, at = followed()
    *_, awp = followed("digits/awp", title="Awp")
    early = crowd.trained("digits/at-early-stopped", DIGITS_DEMO, epoch=63)
    alone = crowd.trained("digits/trades", DIGITS_DEMO, epoch=120)
    query = "&".join(f"e={one.slug}" for one in (at, early, awp, alone))
    rows = table(client, f"/figures/training/flatness.csv?{query}")
    assert {row["training"] for row in rows} == {"A, B · AT", "C · Awp"}
    assert [int(row["epoch"]) for row in rows] == [*EPOCHS, *EPOCHS]
    shown = client.get(f"/compare/?{query}").content.decode()
    assert shown.count("<svg>") == 2
    assert f"/figures/training/flatness.svg?{query.replace('&', '&amp;')}" in shown
    document = client.get(f"/compare.json?{query}").json()
    assert [one["numbers"].get(KEY, {}).get("value") for one in document["entries"]] == [0.3, 0.3, None, None]
    assert "Their training" not in client.get(f"/compare/?e={alone.slug}&e={alone.slug}").content.decode()
    assert client.get("/figures/training/flatness.svg?e=none").status_code == 404


def test_as_many_queries_for_many_snapshots_as_for_few(client: Client, django_assert_num_queries) -> None:
    *_, end = followed()
    stopped()
    board = 7  # how often, the stamp, which entries changed, those, their numbers, early-stopped, what others report
    for queries in (board, 3):
        with django_assert_num_queries(queries):
            client.get("/")
    for _ in range(2):
        # how often, who may see it, the entry, its numbers, its training, those numbers, its shape, objections
        with django_assert_num_queries(8):
            client.get(end.get_absolute_url())
        followed("digits/trades")
        for epoch in range(1, 10):
            crowd.trained("digits/at", DIGITS_CURVE, epoch=epoch)
            crowd.trained("digits/trades", DIGITS_STOPPED, epoch=epoch)
    with django_assert_num_queries(board):
        client.get("/")
    assert Submission.objects.filter(state=State.PUBLISHED).count() == 49


def test_through_real_services_the_numbers_are_those_that_were_measured(client: Client, tmp_path: Path) -> None:
    end = factory.trained(tmp_path, "digits/at", quality=0.4)
    early = factory.trained(tmp_path, "digits/at", epoch=63, quality=0.6, protocol=DIGITS_STOPPED)
    measured = selectors.numbers(early.entry)["robust_error_test"]
    number = client.get(f"/api/v1/entries/{end.slug}/").json()["numbers"][KEY]
    assert (number["value"], number["low"], number["high"], number["n"]) == (
        measured.value, measured.low, measured.high, measured.n
    )  # fmt: skip
    assert number["value"] == early_stopped(end) != selectors.numbers(end.entry)["robust_error_test"].value
