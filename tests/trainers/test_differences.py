"""What a recipe changes of its base, the list that says so, and the documents that repeat it."""

import re
from pathlib import Path

import pytest

from trainers.differences import base_of, differences, listing, markdown, side_by_side
from trainers.recipe import Recipe, list_recipes, override

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "training.md"
RECIPES = list_recipes()
FAMILIES = sorted({recipe.family for recipe in RECIPES})


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_differences_laid_over_the_base_give_the_recipe(recipe: Recipe) -> None:
    rebuilt = override(base_of(recipe.family), differences(recipe))
    assert (rebuilt.digest, rebuilt.checkpoint) == (recipe.digest, recipe.checkpoint)
    assert differences(base_of(recipe.family)) == {}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_side_by_side_a_recipe_and_its_base_differ_exactly_where_it_says_so(recipe: Recipe) -> None:
    base = base_of(recipe.family)
    rows = side_by_side([base, recipe])
    assert side_by_side([recipe, recipe]) == {}
    assert {path.split(".")[0] for path in rows} <= {path.split(".")[0] for path in differences(recipe)}
    for path, value in differences(recipe).items():
        if path in rows and not value.startswith("["):  # of lists it shows the defaults too
            assert rows[path][1] == value


def test_side_by_side_shows_what_only_one_of_them_has() -> None:
    named = {recipe.name: recipe for recipe in RECIPES}
    rows = side_by_side([named["digits/at"], named["digits/trades"], named["digits/at"]])
    assert any(values[0] == values[2] != values[1] for values in rows.values())
    assert all(len(set(values)) == 2 for values in rows.values())


def test_the_list_goes_through_the_families_and_gives_the_rows_of_table_1_first() -> None:
    _, *lines = listing(RECIPES)
    names = re.compile(r"\b(digits|stutz2021)/[\w-]+")
    listed = [
        (match.group(1), match.group(), line[: match.start()].strip())
        for line in lines
        if (match := names.search(line))
    ]
    assert len(listed) == len(lines) == len(RECIPES)
    assert [family for family, _, _ in listed] == sorted(recipe.family for recipe in RECIPES)
    for family in FAMILIES:
        recipes = {recipe.name: recipe for recipe in list_recipes(family)}
        mine = [(name, row) for where, name, row in listed if where == family]
        assert [row for _, row in mine] == [str(row) for row in range(1, 20)] + [""] * (len(recipes) - 19)
        assert all(row == str(recipes[name].row or "") for name, row in mine)
        assert {name for name, _ in mine} == recipes.keys()


def test_a_line_of_the_list_tells_title_and_changes_as_a_command_line_takes_them() -> None:
    line = next(line for line in listing(RECIPES) if "digits/awp" in line)
    assert line.split()[:3] == ["4", "digits/awp", "AT-AWP"]
    assert line.endswith("""'stepper={"kind": "awp", "gamma": 0.01}'""")


def test_markdown_has_a_table_a_family_with_the_notes() -> None:
    tables = "\n".join(markdown(RECIPES)).split("\n\n")
    assert len(tables) == len(FAMILIES)
    for family, table in zip(FAMILIES, tables, strict=True):
        header, rule, *lines = table.splitlines()
        assert {line.count(" | ") for line in (header, rule, *lines)} == {4}
        assert len(lines) == len(list_recipes(family))
        for recipe in list_recipes(family):
            assert f"| `{recipe.name}` | {recipe.title} |" in table
            assert recipe.note in table


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_in_the_document_is_the_list(family: str) -> None:
    command = f"python -m trainers --list --markdown --family {family}"
    block = re.search(rf"<!-- {command} -->\n(.*?)\n<!-- end -->", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None, f"{DOCUMENT} has no table between <!-- {command} --> and <!-- end -->"
    assert block.group(1).splitlines() == markdown(list_recipes(family)), (
        f"replace the table by what `{command}` prints"
    )
