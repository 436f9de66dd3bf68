import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluator.architectures import parse_options
from evaluator.dataset_facts import find_dataset_facts
from evaluator.exceptions import InvalidRequest
from evaluator.shipped import PROTOCOLS
from trainers.recipe import FOLDER, Recipe, list_recipes, list_sweeps, load_recipe, override

ROOT = Path(__file__).resolve().parents[2]
RECIPES = list_recipes()
FAMILIES = sorted(path.stem for path in FOLDER.glob("*.toml"))
every_family = pytest.mark.parametrize("family", FAMILIES)
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


@every_recipe
def test_every_recipe_names_a_network_and_images_that_exist(recipe: Recipe) -> None:
    facts = find_dataset_facts(recipe.dataset)
    parse_options(recipe.architecture, recipe.options)
    assert recipe.source.examples.stop <= facts.train
    assert recipe.monitor is None or recipe.monitor.examples.stop <= facts.size(recipe.monitor.split)
    assert load_recipe(recipe.name) is recipe


@every_recipe
def test_no_recipe_chooses_its_snapshot_on_examples_that_rank(recipe: Recipe) -> None:
    assert recipe.monitor is not None
    ranking = [versions[-1] for versions in PROTOCOLS.values()]
    ranking = [one for one in ranking if one.rankable and one.dataset == recipe.dataset]
    assert ranking
    for protocol in ranking:
        for used in (protocol.robust_loss_examples, protocol.flatness_examples, protocol.autoattack_examples):
            assert recipe.monitor.examples.start >= used.count(recipe.monitor.split), protocol.label


@every_family
def test_a_family_has_every_row_of_table_1_once(family: str) -> None:
    assert sorted(recipe.row for recipe in list_recipes(family) if recipe.row) == list(range(1, 20))


@every_family
def test_a_sweep_varies_the_variant_it_stands_under(family: str) -> None:
    swept = list_sweeps(family)
    assert len({recipe.digest for recipe in swept}) == len(swept)
    assert not {recipe.digest for recipe in swept} & {recipe.digest for recipe in list_recipes(family)}
    for recipe in swept:
        variant = load_recipe(recipe.name.partition(" ")[0])
        assert (recipe.title, recipe.row) == (variant.title, variant.row)
        assert len(recipe.changes) == 1
        assert load_recipe(recipe.name).digest == recipe.digest


def test_recipes_differ_in_digest_unless_they_share_a_training() -> None:
    by_digest: dict[str, list[str]] = {}
    for recipe in RECIPES:
        by_digest.setdefault(recipe.digest, []).append(recipe.name)
    assert [names for names in by_digest.values() if len(names) > 1] == [
        [f"{family}/at", f"{family}/at-early-stopped"] for family in FAMILIES
    ]


def test_a_variant_holds_only_its_differences() -> None:
    base, smoothed = load_recipe("digits/at"), load_recipe("digits/label-smoothing")
    differing = {key for key in Recipe.model_fields if getattr(base, key) != getattr(smoothed, key)}
    assert differing - {"name", "title", "note", "row"} == {"objective"}
    assert smoothed.objective.kind == base.objective.kind == "cross-entropy"


def test_a_part_of_another_kind_replaces_the_whole_part() -> None:
    assert load_recipe("digits/trades").objective.model_dump() == {"kind": "trades", "beta": 6.0}
    assert load_recipe("digits/clean").attack.model_dump() == {"kind": "none"}


def test_the_digest_follows_settings_and_not_words() -> None:
    recipe = load_recipe("digits/at")
    assert recipe.model_copy(update={"title": "x", "note": "y", "row": 1, "name": "digits/z"}).digest == recipe.digest
    assert override(recipe, {"optimizer.momentum": "0.8"}).digest != recipe.digest


def test_an_unknown_recipe_is_refused_with_the_nearest_and_the_list() -> None:
    with pytest.raises(InvalidRequest, match=r"'digits/trade'; did you mean 'digits/trades'\? There are digits/adam, "):
        load_recipe("digits/trade")
    with pytest.raises(InvalidRequest, match=r"'nothing'; there are digits/adam, "):
        load_recipe("nothing")
    with pytest.raises(InvalidRequest, match=r"'digit'; did you mean 'digits'\? There are digits, stutz2021"):
        list_recipes("digit")


def test_overrides_reach_into_parts_and_the_name_tells_them_so_that_it_can_be_loaded_again() -> None:
    recipe = override(
        load_recipe("digits/at"),
        {"epochs": "3", "attack.epsilon": "0.2", "options.width": "4", "stepper": '{"kind": "awp", "gamma": 0.02}'},
    )
    assert (recipe.epochs, recipe.options, recipe.stepper.kind) == (3, {"width": 4}, "awp")
    assert recipe.attack.model_dump()["epsilon"] == 0.2
    assert recipe.name.startswith("digits/at epochs=3 attack.epsilon=0.2 options.width=4 ")
    assert load_recipe(recipe.name) == recipe
    assert override(recipe, {}) == recipe


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("digits/at epochs", "written key=value, as in epochs=20; got 'epochs'"),
        ("digits/at =3", "written key=value, as in epochs=20; got '=3'"),
        ("digits/at 'epochs=3", "No closing quotation"),
        ("", "no recipe is called ''; there are"),
    ],
)
def test_a_name_that_cannot_be_read_is_refused_in_a_sentence(name: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        load_recipe(name)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("rate", "1", r"no setting 'rate'; there are after_step, "),
        ("optimizer.momentun", "1", r"no setting 'momentun' in optimizer; did you mean 'momentum'\? There are kind, "),
        ("objective.beta", "1", r"no setting 'beta' in objective; there are kind, label_smoothing$"),
        ("epochs.first", "1", r"no setting 'epochs.first'"),
        ("epochs", "many", r"epochs: .*integer.*got 'many'$"),
        ("attack.epsilon", "-1", r"attack.*epsilon: .*greater than 0, got -1$"),
        ("attack.epsilon", "NaN", r"epsilon: .*finite"),
        ("source.label_noise", "1.5", r"label_noise: .*less than or equal to 1, got 1.5$"),
        ("objective", '{"kind": "hinge"}', r"objective: .*'hinge'.*'cross-entropy', 'trades'"),
        ("objective.kind", "trades", r"objective.trades.beta: Field required$"),
        (
            "schedule",
            '{"kind": "cyclic", "cycles": 2, "milestones": [0.5]}',
            r"schedule.cyclic.milestones: Extra inputs",
        ),
        ("precision", "float16", r"'float32' or 'bfloat16', got 'float16'$"),
        ("monitor.examples.start", "399", r"monitor's examples 399 … 797 overlap those trained on, 0 … 400$"),
        ("monitor.examples.start", "797", r"the range 797 … 797 holds no example$"),
    ],
)
def test_an_override_that_does_not_fit_is_refused_in_a_sentence(path: str, value: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        override(load_recipe("digits/at"), {path: value})


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("source.unlabeled.examples.start", "596", "monitor's examples 400 … 597 overlap the unlabeled, 596 … 797"),
        ("source.examples.stop", "401", "monitor's examples 400 … 597 overlap those trained on, 0 … 401"),
        (
            "source.unlabeled.examples",
            '{"start": 300, "stop": 350}',
            "unlabeled examples 300 … 350 overlap those trained",
        ),
        ("source.fraction", "1", "fraction: .*less than 1, got 1"),
    ],
)
def test_unlabeled_examples_stand_apart_from_all_others(path: str, value: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        override(load_recipe("digits/unlabeled"), {path: value})


def test_the_best_snapshot_needs_a_monitor() -> None:
    with pytest.raises(InvalidRequest, match="needs a monitor"):
        override(load_recipe("digits/at-early-stopped"), {"monitor": "null"})


def test_the_web_process_can_list_recipes_without_torch() -> None:
    script = (
        "import sys; sys.modules['torch'] = None; from trainers.recipe import list_recipes; print(len(list_recipes()))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    listed = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert int(listed.stdout) == len(RECIPES)


def test_every_family_file_has_a_variant() -> None:
    assert {recipe.family for recipe in RECIPES} == {path.stem for path in FOLDER.glob("*.toml")}
