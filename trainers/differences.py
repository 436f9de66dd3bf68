"""How a recipe differs from its family's base, as the changes that `override` takes (torch-free)."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from trainers.recipe import FOLDER, Recipe


def base_of(family: str) -> Recipe:
    """Return the base of a family's file as a recipe of its own, called as the family is."""
    tables = tomllib.loads((FOLDER / f"{family}.toml").read_text(encoding="utf-8"))
    return Recipe.model_validate({"name": family, "title": family} | tables["base"])


def differences(recipe: Recipe) -> dict[str, str]:
    """Return the settings in which `recipe` differs from its base, values as JSON by their dotted paths.

    Laid over the base by `override`, they give a recipe of the same digest. A part of another kind is one difference.
    """
    base, own = (
        one.model_dump(mode="json", exclude={"name", "title", "note", "row"}, exclude_unset=True)
        for one in (base_of(recipe.family), recipe)
    )
    return {path: json.dumps(value, ensure_ascii=False) for path, value in _differing(base, own)}


def _differing(base: Mapping[str, Any], own: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in own.items():
        old = base.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and old.get("kind") == value.get("kind"):
            yield from _differing(old, value, f"{place}{key}.")
        elif key not in base or old != value:
            yield f"{place}{key}", value
