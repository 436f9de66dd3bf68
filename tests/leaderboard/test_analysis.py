"""A study's numbers: what counts, how seeds become variants, what the figures and sentences say."""

import csv
import io
import random
from dataclasses import replace

import pytest

from leaderboard.analysis import Reported
from leaderboard.figures import AXES
from leaderboard.findings import PAIRS, groups, order, overfitting, related, schedule, table
from leaderboard.paper_figures import FIGURES, draw_up
from tests.leaderboard.study import VARIANTS, evidence, measured, variants
from trainers.recipe import load_recipe


def drawn(key, **numbers):
    return FIGURES[key].figure(evidence(**numbers))


def test_a_variant_is_the_mean_of_its_seeds_between_the_least_and_the_greatest():
    (at,) = evidence(final=[measured("digits/at", 0.1 * (1 + seed), seed=seed) for seed in range(3)]).variants
    spread = at.numbers["robust_loss_test"]
    assert (spread.value, spread.low, spread.high, spread.seeds) == pytest.approx((1.2, 1.1, 1.3, 3))


def test_the_order_in_which_checkpoints_come_changes_nothing():
    numbers = variants()
    shuffled = random.Random(0).sample(numbers, len(numbers))
    assert related(evidence(final=numbers)) == related(evidence(final=shuffled))
    assert table(evidence(final=numbers)) == table(evidence(final=shuffled))


def test_a_checkpoint_on_its_way_is_no_variant_unless_a_recipe_stops_there():
    stopped = measured("digits/at", 0.1, epoch=40)
    assert [v.recipe.name for v in evidence(final=[stopped]).variants] == ["digits/at-early-stopped"]
    assert evidence(final=[measured("digits/awp", 0.1, epoch=40)]).variants == ()
    assert evidence(final=[measured("digits/awp stepper.gamma=0.02", 0.1)]).variants == ()
    assert evidence(curve=[measured("digits/awp stepper.gamma=0.02", 0.1, epoch=40)]).swept == ()


def test_the_end_of_a_training_is_the_plain_variant_whichever_recipe_its_manifest_names():
    (variant,) = evidence(final=[measured("digits/at-early-stopped", 0.1, epoch=120)]).variants
    assert variant.recipe == load_recipe("digits/at")


def test_other_families_are_left_out():
    assert evidence(final=[measured("stutz2021/at", 0.1)]).variants == ()


def test_controls_are_told_from_variants_trained_against_the_adversary():
    names = ("digits/at", "digits/clean", "digits/l2")
    found = evidence(final=[measured(name, 0.1) for name in names])
    assert [v.recipe.name for v in found.defended] == ["digits/at"]
    assert found.is_control(load_recipe(names[2]))


@pytest.mark.parametrize(("sign", "verdict"), [(1, "Agrees with the paper"), (-1, "Contradicts the paper")])
def test_the_sentence_follows_the_numbers(sign, verdict):
    figure = drawn("rloss-flatness", final=variants(sign))
    assert figure.finding.startswith(verdict)
    assert f"ρ = {'' if sign > 0 else '−'}1.00" in figure.finding
    assert "n = 6" in figure.finding


def test_controls_are_drawn_but_do_not_correlate():
    control = measured("digits/clean", 9.0, flatness=-9.0)
    with_control = drawn("rloss-flatness", final=[*variants(), control])
    assert with_control.finding == drawn("rloss-flatness", final=variants()).finding
    assert [mark.control for mark in with_control.marks] == [False] * 6 + [True]
    found = {(one.x, one.y): one for one in related(evidence(final=[*variants(), control]))}
    flat = found["flatness_test", "robust_loss_test"]
    assert flat.defended.rho == 1
    assert flat.everything.rho < 1


def test_within_equal_schedules_a_longer_training_does_not_count_as_evidence():
    short = [f"{name} epochs=60" for name in VARIANTS[:4]]
    assert schedule(load_recipe(short[0])) != schedule(load_recipe("digits/at"))
    assert schedule(load_recipe("digits/weight-decay")) == schedule(load_recipe("digits/at"))
    found = related(evidence(final=[m for m in variants() if m.recipe.name != "digits/silu"]))
    assert all(one.equal_schedules.n == 5 for one in found)
    cyclic = evidence(final=[*variants(), measured("digits/cyclic", 0.0, flatness=5.0)])
    assert related(cyclic)[0].equal_schedules.rho == 1 > related(cyclic)[0].defended.rho


@pytest.mark.parametrize("key", FIGURES)
def test_too_few_numbers_are_said_to_be_too_few(key):
    for numbers in ({}, {"final": [measured("digits/at", 0.1)], "curve": [measured("digits/at", 0.1, epoch=4)]}):
        assert drawn(key, **numbers).finding.startswith("Too few points")


def curve(name, path, **numbers):
    return [measured(name, badness, epoch=4 * (i + 1), **numbers) for i, badness in enumerate(path)]


def test_robust_overfitting_is_seen_where_test_rises_beyond_the_intervals_while_train_falls():
    figure = drawn("robust-overfitting", curve=curve("digits/at", (0.5, 0.2, 0.4, 0.6)))
    assert figure.finding.startswith("Agrees with the paper: on test the loss is lowest after epoch 8 (1.20) and 1.60")
    assert {series: len(marks) for series, marks in figure.series.items()} == {"test": 4, "train": 4}
    for path in ((0.5, 0.2, 0.21), (0.5, 0.3, 0.2)):
        assert drawn("robust-overfitting", curve=curve("digits/at", path)).finding.startswith("Does not agree")


def test_paths_that_overfit_are_counted_by_what_flatness_does_meanwhile():
    rising = [one for name in VARIANTS for one in curve(name, (0.5, 0.2, 0.6))]
    assert drawn("flatness-in-training", curve=rising).finding.startswith("Agrees with the paper: on 6 of 6")
    flatter = [replace(one, numbers=measured(one.recipe.name, 0.2 + one.epoch / 40, flatness=1 / one.epoch).numbers)
               for one in rising]  # fmt: skip
    assert drawn("flatness-in-training", curve=flatter).finding.startswith("Contradicts the paper: on 0 of 6")
    falling = [one for name in VARIANTS for one in curve(name, (0.5, 0.2))]
    assert drawn("flatness-in-training", curve=falling).finding.startswith("Too few points")


def test_a_sweep_goes_through_its_variant_in_the_order_of_its_values():
    values = {"0.001": 0.1, "0.005": 0.2, "0.05": 0.4}
    swept = [measured(f"digits/awp stepper.gamma={value}", badness) for value, badness in values.items()]
    averaged = measured("""digits/weight-averaging after_step='[{"kind":"averaging","decay":0.98}]'""", 0.3)
    two = measured("digits/awp stepper.gamma=0.3 epochs=60", 0.9)
    origins = [measured("digits/awp", 0.3), measured("digits/weight-averaging", 0.1)]
    figure = drawn("sweeps", curve=[*reversed(swept), averaged, two, *origins])
    assert {series: [m.label for m in marks] for series, marks in figure.series.items()} == {
        "AT-AWP: gamma": ["0.001", "0.005", "0.01", "0.05"],
        "AT + weight averaging: decay": ["0.98", "0.995"],
        "AT-AWP: epochs, gamma": ["60, 0.3", "120, 0.01"],
    }
    assert "within 1 setting of 4 values" in figure.finding


def test_each_swept_setting_has_its_own_trend():
    values = {"0.001": 0.1, "0.005": 0.2, "0.05": 0.4}
    swept = [measured(f"digits/awp stepper.gamma={value}", badness) for value, badness in values.items()]
    few = [measured("digits/trades objective.beta=3", 0.2), measured("digits/trades", 0.1)]
    figure = drawn("sweeps", curve=[*swept, measured("digits/awp", 0.3), *few])
    assert "Setting by setting: AT-AWP: gamma ρ = 1.00 over 4 values." in figure.finding
    assert figure.trend_lines == {"AT-AWP: gamma": pytest.approx((1.0, 1.0))}  # two points have no trend
    assert drawn("flatness-in-training", curve=swept).trend_lines == {}


def test_error_against_loss_tells_those_that_lose_more_than_a_blind_guess_from_the_others():
    worse = [measured(name, 1.5 - 0.02 * i, flatness=1.0) for i, name in enumerate(VARIANTS[:5])]
    better = [measured(name, 0.3, flatness=1.0) for name in VARIANTS[5:]]
    figure = drawn("rerr-rloss", final=[*worse, *better])
    assert figure.bend == pytest.approx(2.302585)
    assert "below it too few points: 1; above it ρ = 1.00 [1.00, 1.00], n = 5." in figure.finding


def test_good_average_and_poor_variants_are_split_at_the_percentiles_of_robust_error():
    found = evidence(final=[*variants(), measured("digits/clean", 9.0)])
    good, average, poor = groups(found)
    assert [group.name for group in (good, average, poor)] == ["good", "average", "poor"]
    assert [len(group.variants) for group in (good, average, poor)] == [2, 2, 2]  # the control is in none
    assert good.variants == ("AT", "AT-AWP")
    errors = [v.numbers["robust_error_test"].value for v in found.defended]
    assert good.numbers["robust_error_test"].high == sorted(errors)[1]
    assert good.numbers["flatness_test"].value == pytest.approx(1.05)
    assert groups(evidence(final=variants()[:4])) == ()


def test_a_table_has_all_rows_of_the_paper_ours_beside_them_and_compares_the_order():
    reported = {
        row: Reported(f"row {row}", {"robust_error_test": 0.4 + row / 100, "flatness": 1 - row / 100})
        for row in range(1, 20)
    }
    stopped = [measured(name, 0.0, seed=seed, epoch=40) for name in VARIANTS for seed in range(2)]
    found = evidence(final=variants(), stopped=stopped, reported=reported)
    rows = table(found)
    assert [row.number for row in rows] == list(range(1, 20))
    ours = {row.number: row for row in rows if row.title}
    assert ours.keys() == {load_recipe(name).row for name in VARIANTS}
    at = ours[19]
    assert at.cells[0].ours.value == pytest.approx(0.2 + 0.0005)
    assert at.cells[3].ours.value == pytest.approx(0.2)
    assert at.cells[0].paper == pytest.approx(0.59)
    assert at.cells[1].paper is None
    assert order(rows)["RErr test"].n == 6
    assert order(rows)["RErr train"] is None


def test_early_stopping_is_paired_by_training():
    final = [measured("digits/at", 0.5 + 0.1 * seed, seed=seed) for seed in range(3)]
    stopped = [measured("digits/at", 0.2 + 0.1 * seed, seed=seed, epoch=40) for seed in range(3)]
    found = overfitting(evidence(final=final, stopped=stopped))
    assert (found.baseline.value, found.baseline.low, found.baseline.high) == pytest.approx((0.03, 0.03, 0.03))
    assert found.baseline.n == 3
    assert found.every_variant is None
    assert overfitting(evidence(final=final[:1], stopped=stopped)).baseline is None


def test_the_csv_of_a_figure_holds_every_point_in_full():
    figures = draw_up(evidence(final=variants(), curve=curve("digits/at", (0.5, 0.2, 0.6))))
    for figure in figures:
        lines = list(csv.DictReader(io.StringIO(figure.csv())))
        assert len(lines) == len(figure.marks) == len(figure.table.rows)
        for line, mark in zip(lines, figure.marks, strict=True):
            assert float(line[figure.x_key]) == mark.x.value
            assert float(line[f"{figure.y_key}_high"]) == mark.y.high
            assert (line["series"], line["label"], line["seeds"]) == (mark.series, mark.label, str(mark.y.seeds))


def test_every_pair_of_columns_has_axes_to_be_named_by():
    assert {key for pair in PAIRS for key in pair} <= AXES.keys()


def test_numbers_are_written_in_the_unit_of_their_axis():
    assert AXES["robust_error_test"].written(0.1234) == "12.3"
    assert AXES["flatness_test"].written(-0.0123) == "−0.012"
    assert AXES["epoch"].written(24) == "24"
