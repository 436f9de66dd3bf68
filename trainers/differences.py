"""How recipes differ from their base, as the changes that `override` takes, and the list of all that (torch-free)."""

import json
import shlex
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any

from trainers.recipe import FOLDER, Recipe

_HEADER = ("row", "recipe", "title", "differences to the base", "note")
_NOT_SETTINGS = {"name", "title", "note", "row"}


@cache
def base_of(family: str) -> Recipe:
    """Return the base of a family's file as a recipe of its own, called as the family is."""
    tables = tomllib.loads((FOLDER / f"{family}.toml").read_text(encoding="utf-8"))
    return Recipe.model_validate({"name": family, "title": family} | tables["base"])


def differences(recipe: Recipe) -> dict[str, str]:
    """Return the settings in which `recipe` differs from its base, values as JSON by their dotted paths.

    Laid over the base by `override`, they give a recipe of the same digest. A part of another kind is one difference.
    """
    base, own = (
        one.model_dump(mode="json", exclude=_NOT_SETTINGS, exclude_unset=True)
        for one in (base_of(recipe.family), recipe)
    )
    return {path: json.dumps(value, ensure_ascii=False) for path, value in _differing(base, own)}


def side_by_side(recipes: Sequence[Recipe]) -> dict[str, tuple[str, ...]]:
    """Return the settings in which recipes differ from each other, by dotted path: each one's value as JSON, or ""."""
    settings = [dict(_leaves(recipe.model_dump(mode="json", exclude=_NOT_SETTINGS))) for recipe in recipes]
    rows = {path: tuple(one.get(path, "") for one in settings) for one in settings for path in one}
    return {path: values for path, values in rows.items() if len(set(values)) > 1}


def listing(recipes: Iterable[Recipe]) -> list[str]:
    """Return the lines of a table, family by family: first the rows of Table 1 in its order, then the other recipes."""
    lines = [_HEADER[:4], *(line[:4] for family in _families(recipes) for line in family)]
    row, name, title = (max(len(line[column]) for line in lines) for column in range(3))
    return [f"{line[0]:>{row}}  {line[1]:<{name}}  {line[2]:<{title}}  {line[3]}".rstrip() for line in lines]


def markdown(recipes: Iterable[Recipe]) -> list[str]:
    """Return the same as Markdown, a table a family, with the recipes' notes."""
    lines: list[str] = []
    for family in _families(recipes):
        lines += [""] * bool(lines) + [_cells(*_HEADER), _cells(*["---"] * len(_HEADER))]
        for row, name, title, changes, note in family:
            lines.append(_cells(row, f"`{name}`", title, changes and f"`{changes}`", note))
    return lines


def _families(recipes: Iterable[Recipe]) -> Iterator[list[tuple[str, str, str, str, str]]]:
    """Yield the cells of each family: row, name, title, differences as words of a command line, note."""
    for _, family in groupby(recipes, key=lambda recipe: recipe.family):
        rows_first = sorted(family, key=lambda recipe: (recipe.row is None, recipe.row))
        yield [
            (
                str(recipe.row or ""),
                recipe.name,
                recipe.title,
                shlex.join(f"{path}={value}" for path, value in differences(recipe).items()),
                recipe.note,
            )
            for recipe in rows_first
        ]


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _differing(base: Mapping[str, Any], own: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in own.items():
        old = base.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and old.get("kind") == value.get("kind"):
            yield from _differing(old, value, f"{place}{key}.")
        elif key not in base or old != value:
            yield f"{place}{key}", value


def _leaves(settings: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", json.dumps(value, ensure_ascii=False)
