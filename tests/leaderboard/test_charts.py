"""The chart: every entry drawn, linked and counted; labels placed apart."""

import re

import pytest

from evaluator.results import Measurement
from evaluator.shipped import DIGITS_DEMO
from evaluator.types import Split
from leaderboard import board_chart, charts
from leaderboard.board_chart import Point


def point(label: str, flatness: float, loss: float) -> Point:
    return Point(
        label,
        f"/entries/{label}/",
        Measurement("flatness", Split.TEST, flatness, flatness - 0.1, flatness + 0.1, 500),
        Measurement("robust_loss", Split.TEST, loss, loss - 0.1, loss + 0.1, 500),
    )


POINTS = [point(f"entry-{i}", 0.1 * i, 1 + 0.1 * (i % 4)) for i in range(8)]


def test_every_point_and_its_label_link_to_the_entry_on_this_site() -> None:
    svg = charts.render_svg(board_chart.rloss_against_flatness(POINTS, DIGITS_DEMO))
    links = re.findall(r'<a xlink:href="([^"]+)"', svg)
    assert sorted(links) == sorted(2 * [p.url for p in POINTS])
    assert "style=" not in svg


def test_the_subtitle_carries_correlation_interval_n_and_protocol() -> None:
    spec = board_chart.rloss_against_flatness(POINTS, DIGITS_DEMO)
    (line,) = spec["title"]["subtitle"]
    assert re.match(r"Spearman ρ = -?\d\.\d\d \[-?\d\.\d\d, -?\d\.\d\d\]", line)
    assert "8 entries · n = 500 test examples" in line
    assert "digits-demo v1" in line


def test_an_entry_far_from_all_others_is_named_instead_of_squeezing_them() -> None:
    spec = board_chart.rloss_against_flatness([*POINTS, point("undefended", 9.0, 25.0)], DIGITS_DEMO)
    first, second = spec["title"]["subtitle"]
    assert "8 entries in the frame" in first
    assert "undefended (9.00, 25.00). With all: Spearman ρ = " in second
    assert first.split(" · ")[0] not in second
    (rows,) = spec["datasets"].values() if "datasets" in spec else [spec["data"]["values"]]
    assert len(rows) == len(POINTS)


@pytest.mark.parametrize("count", [1, 2])
def test_few_entries_are_drawn_without_a_correlation(count: int) -> None:
    spec = board_chart.rloss_against_flatness(POINTS[:count], DIGITS_DEMO)
    assert spec["title"]["subtitle"][0].startswith("too few entries")
    assert charts.render_svg(spec).count("<a ") == 2 * count


def test_no_entries_make_no_chart() -> None:
    assert board_chart.rloss_against_flatness([], DIGITS_DEMO) == {}


def test_labels_of_close_points_do_not_cover_each_other() -> None:
    close = [point(f"label-{i}", 1.0 + 0.01 * i, 1.0 + 0.002 * i) for i in range(4)]
    close += [point("left", 0.0, 0.5), point("right", 2.0, 1.5)]
    spec = board_chart.rloss_against_flatness(close, DIGITS_DEMO)
    (rows,) = spec["datasets"].values() if "datasets" in spec else [spec["data"]["values"]]
    assert len({(row["align"], row["dx"], row["dy"]) for row in rows[:4]}) == 4
