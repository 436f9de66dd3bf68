"""The figures of a study: every point drawn, far controls named, links and titles where they belong."""

import re

import pytest

from leaderboard import charts
from leaderboard.paper_figures import FIGURES, draw_up
from leaderboard.study_charts import study_figure, study_notes, study_svg
from tests.leaderboard.study import evidence, measured, variants


def everything():
    swept = [measured(f"digits/awp stepper.gamma={g}", g, flatness=g) for g in (0.001, 0.02, 0.05)]
    curve = [
        measured(name, epoch / 100, epoch=epoch) for name in ("digits/at", "digits/awp") for epoch in (40, 80, 120)
    ]
    return evidence(final=variants(), curve=[*curve, *swept])


@pytest.mark.parametrize("figure", draw_up(everything()), ids=FIGURES)
def test_every_point_is_drawn_and_leads_to_its_entry_if_asked(figure):
    svg = study_svg(figure, linked=True)
    assert set(re.findall(r'xlink:href="([^"]+)"', svg)) == {mark.url for mark in figure.marks}
    assert svg.count('aria-roledescription="circle"') == len(figure.marks)
    assert "xlink:href" not in study_svg(figure, linked=False)
    assert "style=" not in svg


def test_no_points_make_no_chart():
    for figure in draw_up(evidence()):
        assert study_figure(figure) == {}
        assert study_svg(figure, linked=True) == ""
        assert study_notes(figure) == []


def test_a_control_far_away_is_named_instead_of_squeezing_the_others():
    near, far = measured("digits/clean", 0.5, flatness=1.6), measured("digits/clean", 9.0, flatness=1.6)
    for control, drawn in ((near, 7), (far, 6)):
        figure = FIGURES["rloss-flatness"].figure(evidence(final=[*variants(), control]))
        (rows,) = study_figure(figure)["datasets"].values()
        assert len(rows) == drawn
        named = "Outside the frame: Clean training (flatness test 1.600, RLoss test 10.000)"
        assert (named in study_notes(figure)) == (drawn == 6)
    alone = FIGURES["rloss-flatness"].figure(evidence(final=[far]))
    assert len(study_notes(alone)) == 1


def test_the_notes_tell_the_protocol_and_how_many_seeds():
    figures = {figure.key: figure for figure in draw_up(everything())}
    assert study_notes(figures["rloss-flatness"]) == ["means over 2 seeds · bars: range of seeds · digits-demo v1"]
    assert study_notes(figures["robust-overfitting"]) == ["one seed · digits-curve v1"]
    assert study_notes(figures["sweeps"]) == ["one seed · digits-curve v1"]


def test_a_file_carries_its_title_which_a_page_has_as_its_heading():
    figure = FIGURES["rloss-flatness"].figure(everything())
    assert "Fig. 1 · Robust loss against flatness" in charts.render_svg(study_figure(figure, "light"))
    assert "Fig. 1" not in study_svg(figure, linked=True)
