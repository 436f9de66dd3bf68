"""Entries side by side: page, CSV, JSON and chart say the same; what does not go together is answered kindly."""

import csv
import io
import re
from pathlib import Path

import pytest
from django.test import Client

from evaluator.combine import BROKEN_BY
from evaluator.shipped import DIGITS_DEMO, SMOKE
from leaderboard import comparing, services
from leaderboard.listing import listing, stamps
from leaderboard.models import Entry, Submission
from tests.leaderboard import crowd, factory
from trainers.recipe import load_recipe

pytestmark = pytest.mark.django_db


def address(*submissions: Submission | str, kind: str = "/compare/") -> str:
    return f"{kind}?{comparing.query([one if isinstance(one, str) else one.slug for one in submissions])}"


def answer(client: Client, *submissions: Submission | str) -> dict:
    response = client.get(address(*submissions, kind="/compare.json"))
    assert response.status_code == 200, response.content
    return response.json()


def page(client: Client, *submissions: Submission | str) -> str:
    response = client.get(address(*submissions))
    assert response.status_code == 200
    return response.content.decode()


@pytest.fixture
def two() -> list[Submission]:
    """Publish two entries without a run."""
    crowd.publish(2, DIGITS_DEMO)
    return list(Submission.objects.order_by("pk"))


def test_page_csv_json_and_chart_say_the_numbers_of_the_board(client: Client, two: list[Submission]) -> None:
    shown, document = page(client, *two), answer(client, *two)
    table = list(csv.DictReader(io.StringIO(client.get(address(*two, kind="/compare.csv")).content.decode())))
    rows = {row.slug: row for row in listing(DIGITS_DEMO, stamps()).rows}
    assert [line["number"] for line in table] == list(DIGITS_DEMO.columns())
    for submission, entry in zip(two, document["entries"], strict=True):
        numbers = rows[submission.slug].numbers
        assert entry["numbers"].keys() == numbers.keys()
        for line in table:
            number = numbers[line["number"]]
            assert float(line[submission.slug]) == entry["numbers"][line["number"]]["value"] == number.value
            assert float(line[f"{submission.slug}_high"]) == number.high
            assert f'<data value="{number.value}">' in shown
        assert entry["outcomes"] == {split: dict.fromkeys(BROKEN_BY, 10) for split in ("train", "test")}
    assert "<svg" in shown
    assert f"A · {two[0].title[:10]}" in client.get(address(*two, kind="/figures/comparison.svg")).content.decode()
    assert client.get(address(*two, kind="/figures/comparison.png")).content.startswith(b"\x89PNG")
    assert client.get(address(*two, kind="/figures/comparison.gif")).status_code == 404


def test_the_paired_differences_are_those_of_the_published_numbers_and_losses_are_read_once(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qualities = enumerate((0.2, 0.9))
    unlike = [factory.published(tmp_path, f"entry {n}", number=n, quality=quality) for n, quality in qualities]
    document = answer(client, *unlike)
    (pair,) = document["pairs"]
    first, second = (entry["numbers"] for entry in document["entries"])
    for name, key in (("error", "robust_error_test"), ("loss", "robust_loss_test")):
        difference = pair[name]["difference"]
        assert difference["value"] == pytest.approx(first[key]["value"] - second[key]["value"])
        assert difference["low"] <= difference["value"] <= difference["high"]
        assert pair[name]["separable"]
    with monkeypatch.context() as patch:
        patch.setattr(services, "run_store", lambda: pytest.fail("read again"))
        assert page(client, *unlike).count("yes: B is better") == 2


def test_an_entry_like_another_is_not_called_better(client: Client, two: list[Submission]) -> None:
    Entry.objects.update(robust_on_test="10" * 500)
    (pair,) = answer(client, *two)["pairs"]
    assert (pair["error"]["p"], pair["error"]["separable"]) == (1, False)
    assert "is better" not in page(client, *two)


def test_losses_of_a_run_that_the_run_store_does_not_have_are_left_out(client: Client) -> None:
    crowd.publish(3, DIGITS_DEMO)
    slugs = [row.slug for row in listing(DIGITS_DEMO, stamps()).rows]
    document = answer(client, *slugs)
    assert [pair["loss"] for pair in document["pairs"]] == [None] * 3
    assert all(pair["error"]["corrected"] >= pair["error"]["p"] for pair in document["pairs"])
    assert "no losses by example" in page(client, *slugs)


def test_recipes_of_references_are_compared_setting_by_setting(client: Client, two: list[Submission]) -> None:
    assert answer(client, *two)["settings"] is None
    for submission, name in zip(two, ("digits/at", "digits/trades"), strict=True):
        submission.manifest |= {"recipe": name, "notes": {"recipe_digest": load_recipe(name).digest}}
        submission.is_reference = True
        submission.save()
    settings = answer(client, *two)["settings"]
    assert settings["objective.kind"][0] != settings["objective.kind"][1]
    assert "<code>objective.kind</code>" in page(client, *two)


def test_what_is_private_withdrawn_or_never_was_looks_the_same(client: Client) -> None:
    crowd.publish(3, DIGITS_DEMO)
    *two, private = Submission.objects.order_by("pk")
    Entry.objects.filter(submission=private).delete()
    Submission.objects.filter(pk=private.pk).update(is_private=True, title="zanzibar")
    for name in (private.slug, "never-was", "a\x00b", "x" * 5000, "<script>"):
        shown = page(client, *two, name)
        assert "No published entry is called" in shown
        assert "zanzibar" not in shown
        assert "<script>" not in shown
        assert shown.count("McNemar’s p") == 1  # the others are compared nevertheless
    response = client.get(address(*two, private.slug, kind="/compare.csv"))
    assert (response.status_code, response["Content-Type"]) == (400, "text/plain; charset=utf-8")
    assert client.get(address(*two, private.slug, kind="/figures/comparison.svg")).status_code == 404


def test_too_many_and_those_of_another_protocol_are_left_out_with_a_reason(
    client: Client, two: list[Submission]
) -> None:
    crowd.publish(1, SMOKE, seed=1)
    foreign = Submission.objects.latest("pk")
    shown = page(client, two[0], foreign, two[1])
    assert f"{foreign.title} under smoke v1 cannot be compared" in shown
    assert "McNemar’s p" in shown
    shown = page(client, *two, "c", "d", "e")
    assert "you asked for 5: these are the first 4" in shown
    assert client.get(address(two[0], foreign, kind="/compare.json")).status_code == 400


def test_one_entry_or_none_leads_to_a_choice(client: Client, two: list[Submission]) -> None:
    assert "boxes on" in page(client)
    shown = page(client, two[0])
    assert "One more is needed" in shown
    assert re.findall(r'name="e" value="([^"]+)"( checked)?', shown) == [(two[0].slug, " checked"), (two[1].slug, "")]
    assert "Name 2 to 4 entries" in client.get(address(two[0], kind="/compare.csv")).content.decode()
    assert page(client, two[0], two[0]) == shown


def test_board_and_entry_lead_to_a_comparison(client: Client, two: list[Submission]) -> None:
    board = client.get("/").content.decode()
    assert sorted(re.findall(r'name="e" value="([^"]+)" form="comparing"', board)) == sorted(one.slug for one in two)
    assert f'href="/compare/?e={two[0].slug}"' in client.get(two[0].get_absolute_url()).content.decode()


def test_what_was_measured_under_a_protocol_that_is_gone_is_not_compared(client: Client, two: list[Submission]) -> None:
    Submission.objects.filter(pk=two[1].pk).update(protocol_digest="0" * 64)
    assert "cannot be compared with the others" in page(client, *two)


def test_a_number_of_queries_that_does_not_grow_with_the_entries(client: Client, django_assert_num_queries) -> None:
    crowd.publish(6, DIGITS_DEMO)
    slugs = [row.slug for row in listing(DIGITS_DEMO, stamps()).rows]
    for count in (2, 4):
        with django_assert_num_queries(4):  # how often, the entries, their numbers, the stamp
            client.get(address(*slugs[:count]))
