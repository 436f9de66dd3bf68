"""What a study trains, and what of it is measured by which protocol."""

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from evaluator.exceptions import InvalidRequest
from evaluator.shipped import find_protocol
from leaderboard.analysis import STUDIES
from leaderboard.study import CURVES, Plan
from trainers.loop import TrainedVariant
from trainers.recipe import list_recipes, list_sweeps, load_recipe

DIGITS = STUDIES["digits"]


def trained(plan: Plan) -> list[TrainedVariant]:
    """Return what the plan's trainings would leave behind."""
    return [
        TrainedVariant(
            recipe, seed, Path("final.safetensors"), Path("best.safetensors") if recipe.monitor else None,
            (Path("epoch-0010.safetensors"), Path("epoch-0020.safetensors")), Path("log.jsonl"), 1.0,
        )
        for recipe, seed in plan.trainings
    ]  # fmt: skip


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_a_study_measures_one_data_set_by_protocols_that_agree_in_what_they_measure(study):
    full, stopped, curve = (find_protocol(name) for name in (study.protocol, study.stopped, study.curve))
    assert full.rankable
    assert {(one.dataset, one.threat_model, one.seed) for one in (stopped, curve)} == {
        (full.dataset, full.threat_model, full.seed)
    }
    assert (stopped.autoattack, stopped.autoattack_examples.test) == (full.autoattack, full.autoattack_examples.test)
    assert curve.flatness.neighborhood == full.flatness.neighborhood
    assert all(recipe.dataset == full.dataset for recipe in list_recipes(study.family))


def test_every_variant_is_trained_with_every_seed_and_sweeps_with_the_first():
    plan = Plan.of(DIGITS, seeds=3)
    names = [recipe.name for recipe in list_recipes("digits")]
    assert [(r.name, seed) for r, seed in plan.trainings if not r.changes] == [(n, s) for s in range(3) for n in names]
    assert [(r, seed) for r, seed in plan.trainings if r.changes] == [(r, 0) for r in list_sweeps("digits")]
    assert {recipe.row for recipe, _ in plan.trainings} >= set(range(1, 20))


def test_chosen_variants_bring_their_sweeps_and_nothing_else():
    plan = Plan.of(DIGITS, seeds=2, variants=["at", "awp"])
    assert [(r.name, seed) for r, seed in plan.trainings if not r.changes] == [
        ("digits/at", 0), ("digits/awp", 0), ("digits/at", 1), ("digits/awp", 1),
    ]  # fmt: skip
    assert {recipe.name.split()[0] for recipe, _ in plan.trainings if recipe.changes} == {"digits/awp"}
    assert not any(r.changes for r, _ in Plan.of(DIGITS, seeds=1, variants=["awp"], sweeps=False).trainings)
    with pytest.raises(InvalidRequest, match=r"'digits/apw'.*digits/awp"):
        Plan.of(DIGITS, seeds=1, variants=["apw"])


def test_final_networks_are_measured_in_full_stopped_ones_for_the_table_and_snapshots_for_the_curves():
    plan = Plan.of(DIGITS, seeds=2)
    handed = plan.handed_in(trained(plan))
    by_protocol = {
        name: [title for _, title, protocol in handed if protocol.name == name]
        for name in (DIGITS.protocol, DIGITS.stopped, DIGITS.curve)
    }
    assert sum(map(len, by_protocol.values())) == len(handed)
    assert by_protocol[DIGITS.protocol] == [r.label(seed) for r, seed in plan.trainings if not r.changes]
    assert len(by_protocol[DIGITS.stopped]) == 19 * 2
    assert "AT (seed 1), early stopped" in by_protocol[DIGITS.stopped]
    assert by_protocol[DIGITS.curve][:3] == ["AT, epoch-0010", "AT, epoch-0020", "AT, final"]
    assert len(by_protocol[DIGITS.curve]) == 3 * len(CURVES) + len(list_sweeps("digits"))
    best = [path for path, title, protocol in handed if (title, protocol.name) == ("AT, early stopped", "digits-demo")]
    assert best == [Path("best.safetensors")]


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_a_swept_setting_and_its_variant_as_it_is_are_measured_alike(study):
    handed = Plan.of(study, seeds=1)
    titles = {title for _, title, protocol in handed.handed_in(trained(handed)) if protocol.name == study.curve}
    swept = list_sweeps(study.family)
    assert {recipe.label(0) for recipe in swept} <= titles
    assert {f"{load_recipe(recipe.name.split()[0]).title}, final" for recipe in swept} <= titles


@pytest.mark.parametrize("option", ["seeds", "processes"])
def test_counts_that_are_none_are_refused_before_anything_happens(option):
    with pytest.raises(CommandError, match=f"--{option} is a count of at least 1, got 0"):
        call_command("study", **{option: 0})
