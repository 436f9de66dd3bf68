"""What a reader can do with a chart stands in its specification, and says the numbers of its table."""

import altair as alt
import pytest
import vl_convert

from evaluator.shipped import DIGITS_DEMO
from leaderboard.board_chart import points_table, rloss_against_flatness
from leaderboard.comparison_chart import Compared, comparison, comparison_table
from leaderboard.paper_figures import draw_up
from leaderboard.study_charts import study_figure
from tests.leaderboard.test_charts import POINTS
from tests.leaderboard.test_study_charts import everything

COMPARED = [Compared(p.label, p.url, (("flatness_test", p.x), ("robust_loss_test", p.y))) for p in POINTS[:3]]
FIGURES = {figure.key: figure for figure in draw_up(everything())}
SPECIFICATIONS = {
    "board": rloss_against_flatness(POINTS, DIGITS_DEMO),
    "compare": comparison(COMPARED, DIGITS_DEMO.label),
    **{key: study_figure(figure) for key, figure in FIGURES.items()},
}


@pytest.mark.parametrize("key", SPECIFICATIONS)
def test_every_chart_is_valid_vega_lite_whose_zoom_has_the_signals_that_the_buttons_set(key: str) -> None:
    spec = SPECIFICATIONS[key]
    alt.Root.from_dict(spec).to_dict()  # raises where the schema is broken
    signals = {signal["name"] for signal in vl_convert.vegalite_to_vega(spec)["signals"]}
    zoom = spec["usermeta"]["zoom"]
    assert zoom
    assert zoom.keys() <= signals
    assert all(low < high for low, high in zoom.values())
    assert ("hidden" in signals) == bool(spec["usermeta"]["series"])


@pytest.mark.parametrize("key", SPECIFICATIONS)
def test_a_wheel_zooms_only_with_a_key_as_it_scrolls_the_page(key: str) -> None:
    zooms = [param["select"]["zoom"] for param in SPECIFICATIONS[key]["params"] if "select" in param]
    assert zooms
    assert all("ctrlKey" in zoom for zoom in zooms)


def test_what_stands_beside_a_pointer_is_what_the_table_says() -> None:
    (rows,) = SPECIFICATIONS["board"]["datasets"].values()
    assert [(row["name"], row["x_shown"], row["y_shown"]) for row in rows] == [
        row[:3] for row in points_table(POINTS).rows
    ]
    for key, figure in FIGURES.items():
        (rows,) = SPECIFICATIONS[key]["datasets"].values()
        assert sorted((row["x_shown"], row["y_shown"]) for row in rows) == sorted(row[2:4] for row in figure.table.rows)
    (rows,) = SPECIFICATIONS["compare"]["datasets"].values()
    cells = {cell for row in comparison_table(COMPARED).rows for cell in row[1:]} - {"–"}
    assert {row["shown"] for row in rows} == cells


def test_frames_with_the_same_axes_move_together_and_others_alone() -> None:
    together, alone = SPECIFICATIONS["flatness-in-training"], SPECIFICATIONS["compare"]
    (zoom,) = [param for param in together["params"] if "select" in param]
    assert zoom["views"] == [frame["layer"][0]["name"] for frame in together["concat"]]
    assert [param["views"] for param in alone["params"]] == [["frame_0"], ["frame_1"]]
