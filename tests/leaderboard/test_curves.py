"""Curves of trainings as figures: what is joined with what, in which frames, and that they can be drawn."""

from html import unescape

import pytest

from evaluator.metrics import METRICS
from evaluator.protocol import EvaluationProtocol
from evaluator.results import Measurement
from evaluator.shipped import DIGITS_CURVE, DIGITS_DEMO, DIGITS_STOPPED
from evaluator.types import Split
from leaderboard import charts
from leaderboard.curve_charts import curves_chart, curves_svg
from leaderboard.curves import KINDS, Curves, of_one, of_several
from leaderboard.trainings import Origin, Snapshot, Training


def snapshot(protocol: EvaluationProtocol, epoch: int, value: float, title: str = "AT") -> Snapshot:
    origin = Origin("digits/at", "0" * 64, 0, epoch, 120)
    numbers = {
        name: Measurement(metric.key, split, value, value - 0.01, value + 0.01, 100)
        for metric in METRICS.values()
        for name, split in zip(metric.columns(), tuple(Split) if metric.per_split else (None,), strict=True)
        if name in protocol.columns()
    }
    slug = f"{title.lower()}-{epoch}-{protocol.name}"
    return Snapshot(origin, slug, title, f"/entries/{slug}/", protocol.name, protocol.version, protocol.digest, numbers)


def training(seed: int = 0, epochs: tuple[int, ...] = (20, 60, 120), title: str = "AT") -> Training:
    on_the_way = [snapshot(DIGITS_CURVE, epoch, 0.2 + epoch / 1000 + seed, title) for epoch in epochs]
    ends = [snapshot(DIGITS_DEMO, 120, 0.9, title), snapshot(DIGITS_STOPPED, 63, 0.4, title)]
    return Training(("0" * 64, seed), (*on_the_way, *ends))


def frames(curves: Curves) -> dict[str, dict[str, list[tuple[float, float]]]]:
    return {
        frame.title: {name: [(dot.x.value, dot.y.value) for dot in dots] for name, dots in frame.lines}
        for frame in curves.frames
    }


def test_one_training_has_test_and_train_in_one_frame_and_only_like_is_joined_with_like() -> None:
    overfitting, flatness = of_one(training())
    curve = [(20, 0.22), (60, 0.26), (120, 0.32)]
    assert frames(overfitting) == {
        "robust loss": {"train": curve, "test": curve},
        "PGD error": {"train": curve, "test": curve},
        "robust error": {"test": [(63, 0.4), (120, 0.9)]},
    }
    assert frames(flatness) == {
        "average-case flatness": {"train": curve, "test": curve},
        "robust loss against flatness": {"test": [(y, y) for _, y in curve]},
    }


def test_a_table_has_a_row_for_each_snapshot_and_no_number_of_another_protocol() -> None:
    overfitting, _ = of_one(training())
    columns = overfitting.columns
    rows = {
        (one.origin.epoch, one.label): dict(zip(columns, overfitting.numbers(one), strict=True))
        for _, one in overfitting.rows
    }
    assert [epoch for epoch, _ in rows] == [20, 60, 63, 120, 120]
    end = rows[120, DIGITS_DEMO.label]
    assert end["robust_loss_test"] is None
    assert end["robust_error_test"].value == 0.9
    assert rows[120, DIGITS_CURVE.label]["robust_loss_test"].value == 0.32
    table = overfitting.table()
    assert len(table.rows) == 5
    assert table.columns[2] == ("RLoss test ↓", "nats")
    assert table.rows[2] == ("epoch 63", DIGITS_STOPPED.label, "–", "–", "–", "–", "40.0 [39.0, 41.0]")
    assert of_several({"A": training()})[0].table().rows[0][0] == "A, epoch 20"
    assert "robust_error_train" not in columns  # of a single epoch


def test_several_trainings_have_a_frame_for_each_number_and_a_line_each() -> None:
    overfitting, flatness = of_several({"A": training(), "B": training(1, (20, 120), "TRADES")})
    assert list(frames(overfitting)) == ["RLoss test", "RLoss train", "PGD Err test", "PGD Err train", "RErr test"]
    assert list(frames(flatness)) == ["Flatness test", "Flatness train", "RLoss against flatness"]
    assert frames(overfitting)["RLoss test"]["B"] == [(20, 1.22), (120, 1.32)]
    assert {name for frame in (*overfitting.frames, *flatness.frames) for name, _ in frame.lines} == {"A", "B"}
    assert overfitting.finding == ""


@pytest.mark.parametrize("epochs", [(), (120,)])
def test_a_single_epoch_makes_no_curve(epochs: tuple[int, ...]) -> None:
    end = Training(("0" * 64, 0), tuple(snapshot(DIGITS_CURVE, epoch, 0.3) for epoch in epochs))
    assert of_one(end) == of_several({"A": end}) == of_several({}) == ()


def test_the_sentence_says_where_the_number_is_lowest() -> None:
    overfitting, flatness = of_one(training())
    assert overfitting.finding == (
        "Robust loss on test is lowest after epoch 20: 0.22 [0.21, 0.23]; after epoch 120 it is 0.32 [0.31, 0.33]."
    )
    assert flatness.finding.startswith("Average-case flatness on test is lowest after epoch 20: 0.22 [0.21, 0.23];")
    falling = Training(("0" * 64, 0), tuple(snapshot(DIGITS_CURVE, e, 0.5 - e / 1000) for e in (20, 120)))
    assert of_one(falling)[0].finding == "Robust loss on test is lowest after epoch 120: 0.38 [0.37, 0.39]."


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_drawn_with_links_intervals_and_the_names_of_its_lines(kind: str) -> None:
    title = "A · <script>alert(1)</script>"
    names = {title: training(), "B": training(1), "C": training(2), "D": training(3)}
    (curves,) = (one for one in of_several(names) if one.kind == kind)
    svg = curves_svg(curves)
    assert "<script>" not in svg
    for text in (*names, *(frame.title for frame in curves.frames)):
        assert text in unescape(svg)
    assert svg.count('href="/entries/at-20-digits-curve/"') >= 4
    spec = curves_chart(curves, "light")
    assert (spec["title"]["text"], spec["title"]["subtitle"]) == (curves.title, [curves.note])
    assert "95 % intervals" in curves.note
    assert spec["usermeta"]["series"] == [*names]
    assert len(spec["params"]) == len(curves.frames) + 1  # each frame zooms alone, and lines can be hidden
    assert all(row["y_low"] < row["y"] < row["y_high"] for row in spec["datasets"]["rows"])
    assert len({row["aside"] for row in spec["datasets"]["rows"]}) >= 4
    assert charts.render_png(curves_chart(curves, "dark")).startswith(b"\x89PNG")
