import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluator.architectures import parse_options
from evaluator.dataset_facts import find_dataset_facts
from evaluator.exceptions import InvalidRequest
from evaluator.protocol import find_protocol
from trainers.recipe import FOLDER, Recipe, list_recipes, load_recipe, override

ROOT = Path(__file__).resolve().parents[2]
RECIPES = list_recipes()
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


@every_recipe
def test_every_recipe_names_a_network_and_images_that_exist(recipe: Recipe) -> None:
    facts = find_dataset_facts(recipe.dataset)
    parse_options(recipe.architecture, recipe.options)
    assert recipe.source.examples.stop <= facts.train
    assert recipe.monitor is None or recipe.monitor.examples.stop <= facts.train
    assert load_recipe(recipe.name) is recipe


@every_recipe
def test_no_recipe_chooses_its_snapshot_on_examples_that_rank(recipe: Recipe) -> None:
    if recipe.family == "digits":
        assert recipe.monitor is not None
        assert recipe.monitor.examples.start >= find_protocol("digits-linf").clean_examples.train


def test_recipes_differ_in_digest_unless_they_share_a_training() -> None:
    by_digest: dict[str, list[str]] = {}
    for recipe in RECIPES:
        by_digest.setdefault(recipe.digest, []).append(recipe.name)
    assert [names for names in by_digest.values() if len(names) > 1] == [["digits/at", "digits/at-early-stopped"]]


def test_a_variant_holds_only_its_differences() -> None:
    base, smoothed = load_recipe("digits/at"), load_recipe("digits/label-smoothing")
    differing = {key for key in Recipe.model_fields if getattr(base, key) != getattr(smoothed, key)}
    assert differing - {"name", "title", "note"} == {"objective"}
    assert smoothed.objective.kind == base.objective.kind == "cross-entropy"


def test_a_part_of_another_kind_replaces_the_whole_part() -> None:
    assert load_recipe("digits/trades").objective.model_dump() == {"kind": "trades", "beta": 6.0}
    assert load_recipe("digits/clean").attack.model_dump() == {"kind": "none"}


def test_the_digest_follows_settings_and_not_words() -> None:
    recipe = load_recipe("digits/at")
    assert recipe.model_copy(update={"title": "x", "note": "y", "name": "digits/z"}).digest == recipe.digest
    assert override(recipe, {"optimizer.momentum": "0.8"}).digest != recipe.digest


def test_an_unknown_recipe_is_refused_with_the_list() -> None:
    with pytest.raises(InvalidRequest, match=r"'digits/nothing'; there are digits/at, .*digits/trades"):
        load_recipe("digits/nothing")


def test_overrides_reach_into_parts_and_show_in_the_name() -> None:
    recipe = override(
        load_recipe("digits/at"),
        {"epochs": "3", "attack.epsilon": "0.2", "options.width": "4", "stepper": '{"kind": "awp", "gamma": 0.02}'},
    )
    assert (recipe.epochs, recipe.options, recipe.stepper.kind) == (3, {"width": 4}, "awp")
    assert recipe.attack.model_dump()["epsilon"] == 0.2
    assert recipe.name.startswith("digits/at (epochs=3, attack.epsilon=0.2")
    assert override(recipe, {}) == recipe


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("rate", "1", r"no setting 'rate'; at that place it has name, "),
        ("objective.beta", "1", r"no setting 'objective.beta'; at that place it has kind, label_smoothing"),
        ("epochs.first", "1", r"no setting 'epochs.first'"),
        ("epochs", "many", r"epochs: .*integer.*got 'many'"),
        ("attack.epsilon", "-1", r"attack.*epsilon: .*greater than 0, got -1"),
        ("attack.epsilon", "NaN", r"epsilon: .*finite"),
        ("objective", '{"kind": "hinge"}', r"objective: .*'hinge'.*'cross-entropy', 'trades'"),
        ("monitor.examples.start", "399", r"monitor's examples 399 … 797 overlap those trained on, 0 … 400"),
        ("monitor.examples.start", "797", r"the range 797 … 797 holds no example"),
    ],
)
def test_an_override_that_does_not_fit_is_refused_in_a_sentence(path: str, value: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        override(load_recipe("digits/at"), {path: value})


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


@every_recipe
def test_every_recipe_is_in_the_docs(recipe: Recipe) -> None:
    assert f"`{recipe.name.partition('/')[2]}`" in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_every_family_file_has_a_variant() -> None:
    assert {recipe.family for recipe in RECIPES} == {path.stem for path in FOLDER.glob("*.toml")}
