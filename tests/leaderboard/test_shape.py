"""The shape of a minimum stands with every entry of its checkpoint: page, files and API say the same numbers."""

import csv
import io
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from django.test import Client

from evaluator.environment import read_environment
from evaluator.exceptions import InvalidResult
from evaluator.metrics import CURVES
from evaluator.protocol import Examples
from evaluator.results import curves_from_fields, evaluation_to_json
from evaluator.shipped import DIGITS_DEMO, DIGITS_SHAPE, PROTOCOLS
from leaderboard import services
from leaderboard.models import Entry, Submission
from leaderboard.shape_chart import shape_figure, shape_svg
from tests.leaderboard import factory

pytestmark = pytest.mark.django_db

FEW = Examples(test=8, train=4)
SHAPE = replace(
    DIGITS_SHAPE,
    clean_examples=FEW,
    robust_loss_examples=FEW,
    landscape=replace(DIGITS_SHAPE.landscape, examples=FEW),
    worst_case=replace(DIGITS_SHAPE.worst_case, examples=FEW, restarts=2),
    flatness=replace(DIGITS_SHAPE.flatness, samples=3),
)


@pytest.fixture
def ranked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submission:
    """Publish an entry under a protocol that ranks."""
    monkeypatch.setitem(PROTOCOLS, SHAPE.name, (SHAPE,))
    return factory.published(tmp_path, "AT")


@pytest.fixture
def companion(ranked: Submission, tmp_path: Path) -> Submission:
    """Publish the curves of the same checkpoint."""
    return factory.published(tmp_path, "AT, shape", protocol=SHAPE)


def page(client: Client, submission: Submission) -> str:
    response = client.get(submission.get_absolute_url())
    assert response.status_code == 200
    return response.content.decode()


def test_what_was_not_measured_is_asked_for_where_entries_rank(client: Client, ranked: Submission, tmp_path: Path):
    shown = page(client, ranked)
    assert "nobody has handed this checkpoint in under" in shown
    assert "--protocol digits-shape" in shown
    assert "Shape of the minimum" not in page(client, factory.published(tmp_path, protocol=PROTOCOLS["smoke"][0]))
    assert client.get(f"{ranked.get_absolute_url()}shape/landscape.svg").status_code == 404


def test_every_entry_of_the_checkpoint_shows_the_curves_and_others_do_not(
    client: Client, ranked: Submission, companion: Submission, tmp_path: Path
) -> None:
    curves = curves_from_fields(Entry.objects.get(submission=companion).curves)
    assert {curve.key for curve in curves} == set(CURVES)
    values = [point.value for curve in curves for point in curve.points]
    assert len(values) == 2 * (5 + 11)
    for submission in (ranked, companion):
        shown = page(client, submission)
        section = shown[shown.index('<h2 id="shape">') :]
        for value in values:
            assert f">{value:.3f} [".replace("-", "−") in section
        for key in CURVES:
            assert f'data-specification="{submission.get_absolute_url()}shape/{key}.vl.json?theme=page"' in section
        assert section.count("<svg") == len(CURVES)
        for number in Entry.objects.get(submission=companion).measurements.filter(metric="worst_case_flatness"):
            assert f'<data value="{number.value}">' in section
        assert "no further than ξ = 0.003" in section
        assert "style=" not in section.partition("</section>")[0]
    assert f'<a href="{companion.get_absolute_url()}">digits-shape v1</a>' in page(client, ranked)
    assert "this entry’s own protocol" in page(client, companion)
    assert "<svg" not in page(client, factory.published(tmp_path, "other", number=1))


def test_files_and_api_say_the_numbers_of_the_page(client: Client, ranked: Submission, companion: Submission) -> None:
    document = client.get(f"/api/v1/entries/{companion.slug}/").json()
    assert curves_from_fields(document["curves"]) == curves_from_fields(Entry.objects.get(submission=companion).curves)
    assert client.get(f"/api/v1/entries/{ranked.slug}/").json()["curves"] == []
    for key in CURVES:
        base = f"{ranked.get_absolute_url()}shape/{key}"
        rows = list(csv.DictReader(io.StringIO(client.get(f"{base}.csv").content.decode())))
        expected = [
            (curve["split"], point["position"], point["value"], point["low"], point["high"], *point["by_direction"])
            for curve in document["curves"] if curve["key"] == key for point in curve["points"]
        ]  # fmt: skip
        columns = ("position", "value", "low", "high", *(f"direction_{k}" for k in range(3)))
        assert [(row["split"], *(float(row[name]) for name in columns)) for row in rows] == expected
        assert CURVES[key].label.capitalize() in client.get(f"{base}.svg").content.decode()
        assert client.get(f"{base}.png").content.startswith(b"\x89PNG")
        specification = client.get(f"{base}.vl.json?theme=page").json()
        assert set(specification["usermeta"]["zoom"]) == {"zoom_x", "zoom_y"}
    for name in ("landscape.gif", "nothing.svg", "landscape"):
        assert client.get(f"{ranked.get_absolute_url()}shape/{name}").status_code == 404


def test_curves_of_what_is_private_hidden_or_not_published_show_nowhere(
    client: Client, ranked: Submission, tmp_path: Path
) -> None:
    services.submit(
        factory.checkpoint(tmp_path, 0), title="secret shape", protocol=SHAPE, is_private=True
    )  # fmt: skip
    private = Submission.objects.get(title="secret shape")
    factory.measure(private)
    assert services.publish_run(private.run_id) is None
    assert "<svg" not in page(client, ranked)
    assert "secret" not in page(client, ranked)


def test_rebuilding_makes_the_same_curves(companion: Submission) -> None:
    before = Entry.objects.get(submission=companion).curves
    services.rebuild()
    assert before == Entry.objects.get(submission=companion).curves != []


def test_curves_that_the_reports_do_not_give_are_not_published(companion: Submission) -> None:
    store = services.run_store()
    result = store.result(companion.run_id)
    assert result is not None
    assert store.reproduced(companion.run_id) == result
    first, *others = result.curves
    forged = replace(first.points[0], value=first.points[0].value - 0.1)
    curve = replace(first, points=(forged, *first.points[1:]))
    text = evaluation_to_json(replace(result, curves=(curve, *others)))
    with sqlite3.connect(read_environment().run_store_url.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE runs SET result = ? WHERE id = ?", (text, companion.run_id.hex))
    with pytest.raises(
        InvalidResult, match=r"flatness_by_radius_test at 0\.1 = .* on 8 examples, but its reports give"
    ):
        services.publish_run(companion.run_id)


def test_a_chart_draws_each_direction_and_the_mean_with_its_interval_on_each_split(companion: Submission) -> None:
    curves = curves_from_fields(Entry.objects.get(submission=companion).curves)
    landscape = tuple(curve for curve in curves if curve.key == "landscape")
    (rows,) = shape_figure(landscape, "digits-shape v1")["datasets"].values()
    assert len(rows) == 2 * 11 * (1 + 3)
    svg = shape_svg(landscape, "digits-shape v1")
    assert svg.count('aria-roledescription="circle"') == 2 * 11
    assert {"test, n = 8", "train, n = 4"} <= set(re.findall(r">([^<]+)</text>", svg))
    assert shape_figure((), "") == {}
    assert DIGITS_DEMO.landscape is None
