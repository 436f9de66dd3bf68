"""Recipe: how a variant is trained, as data; a family's tables live in recipes/*.toml (torch-free)."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, PositiveInt, ValidationError, model_validator

from evaluator.exceptions import InvalidRequest
from trainers.settings import (
    AdamSettings,
    AttackSettings,
    AugmentedSettings,
    AveragingSettings,
    AwpSettings,
    ClippingSettings,
    CrossEntropySettings,
    CyclicSettings,
    EntropySgdSettings,
    LabelledSettings,
    MartSettings,
    MonitorSettings,
    MultiStepSettings,
    SelfSupervisionSettings,
    Settings,
    SgdSettings,
    SgdStepSettings,
    TradesSettings,
)

FOLDER = Path(__file__).with_name("recipes")


class Recipe(Settings):
    """One variant of a family, complete. `checkpoint` says which of the two snapshots is the variant."""

    name: Annotated[str, Field(max_length=1000)]
    title: str
    note: str = ""
    dataset: str
    architecture: str
    options: dict[str, JsonValue] = Field(default_factory=dict)
    epochs: PositiveInt
    source: Annotated[LabelledSettings | AugmentedSettings, Field(discriminator="kind")]
    attack: AttackSettings
    objective: Annotated[
        CrossEntropySettings | TradesSettings | MartSettings | SelfSupervisionSettings, Field(discriminator="kind")
    ]
    stepper: Annotated[SgdStepSettings | AwpSettings | EntropySgdSettings, Field(discriminator="kind")]
    optimizer: Annotated[SgdSettings | AdamSettings, Field(discriminator="kind")]
    schedule: Annotated[MultiStepSettings | CyclicSettings, Field(discriminator="kind")]
    after_step: tuple[Annotated[AveragingSettings | ClippingSettings, Field(discriminator="kind")], ...] = ()
    monitor: MonitorSettings | None = None
    checkpoint: Literal["final", "best"] = "final"

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.monitor is None and self.checkpoint == "best":
            raise ValueError("the best checkpoint needs a monitor to choose it")
        if self.monitor is not None:
            held, trained = self.monitor.examples, self.source.examples
            if held.start < trained.stop and trained.start < held.stop:
                raise ValueError(
                    f"the monitor's examples {held.start} … {held.stop} overlap those trained on, "
                    f"{trained.start} … {trained.stop}"
                )
        return self

    @property
    def family(self) -> str:
        """The file this recipe stands in."""
        return self.name.partition("/")[0]

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides the weights on the way, as 64 hexadecimal digits.

        Words do not, and neither does `checkpoint`: recipes that differ in it alone share one training.
        """
        settings = self.model_dump(mode="json", exclude={"name", "title", "note", "checkpoint"})
        return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def list_recipes() -> tuple[Recipe, ...]:
    """Return every shipped recipe, family by family in the files' order."""
    return tuple(recipe for path in sorted(FOLDER.glob("*.toml")) for recipe in _family(path).values())


def load_recipe(name: str) -> Recipe:
    """Return the recipe called `family/variant`, for example `digits/at`.

    Raises:
        InvalidRequest: there is none; the message lists what there is.
    """
    recipes = {recipe.name: recipe for recipe in list_recipes()}
    if name not in recipes:
        raise InvalidRequest(f"no recipe is called {name!r}; there are {', '.join(recipes)}")
    return recipes[name]


def override(recipe: Recipe, changes: Mapping[str, str]) -> Recipe:
    """Return `recipe` with settings changed, each by its dotted path, such as `optimizer.weight_decay` = "0.01".

    Values are read as JSON where they are JSON, else as plain words. The name tells what was changed.

    Raises:
        InvalidRequest: an unknown path, or a value its setting does not take.
    """
    settings = recipe.model_dump(mode="json")
    for path, text in changes.items():
        *parents, last = path.split(".")
        table: Any = settings
        for key in parents:
            table = table.get(key) if isinstance(table, dict) else None
        if not isinstance(table, dict) or (last not in table and parents != ["options"]):
            known = ", ".join(table if isinstance(table, dict) else settings)
            raise InvalidRequest(f"recipe {recipe.name} has no setting {path!r}; at that place it has {known}")
        table[last] = _json_or_word(text)
    if changes:
        settings["name"] = f"{recipe.name} ({', '.join(f'{path}={text}' for path, text in changes.items())})"
    return _validated(settings)


@cache
def _family(path: Path) -> dict[str, Recipe]:
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        variant: _validated(_merged(tables["base"], {"name": f"{path.stem}/{variant}"} | changes))
        for variant, changes in tables["variants"].items()
    }


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` laid over it, table by table; a part of another kind replaces the whole part."""
    merged = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        same_kind = isinstance(old, dict) and isinstance(value, dict) and value.get("kind") in (None, old.get("kind"))
        merged[key] = _merged(old, value) if same_kind else value  # type: ignore[arg-type]  # same_kind says: a dict
    return merged


def _validated(settings: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "as a whole"
        raise InvalidRequest(
            f"recipe {settings['name']}, {place}: {first['msg']}, got {first['input']!r:.80}"
        ) from error


def _json_or_word(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value
