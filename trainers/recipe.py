"""Recipe: how a variant is trained, as data; a family's tables live in recipes/*.toml (torch-free)."""

import hashlib
import json
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, PositiveInt, ValidationError, model_validator

from evaluator.exceptions import InvalidRequest
from evaluator.types import Split
from trainers.settings import (
    AdamSettings,
    AttackSettings,
    AveragingSettings,
    AwpSettings,
    ClippingSettings,
    CyclicSettings,
    EntropySgdSettings,
    MonitorSettings,
    MultiStepSettings,
    ObjectiveSettings,
    Settings,
    SgdSettings,
    SgdStepSettings,
    SourceSettings,
    UnlabeledSettings,
    WithheldSettings,
)

FOLDER = Path(__file__).with_name("recipes")

_NOT_OF_THE_TRAINING = ("name", "title", "note", "row", "checkpoint")


class Recipe(Settings):
    """One variant of a family, complete. `checkpoint` says which of the two snapshots is the variant.

    `row` is the variant's place in Table 1 of Stutz et al. (2021), if it has one.
    """

    name: Annotated[str, Field(max_length=1000)]
    title: str
    note: str = ""
    row: Annotated[int, Field(ge=1, le=19)] | None = None
    dataset: str
    architecture: str
    options: dict[str, JsonValue] = Field(default_factory=dict)
    epochs: PositiveInt
    source: SourceSettings
    attack: AttackSettings
    objective: ObjectiveSettings
    stepper: Annotated[SgdStepSettings | AwpSettings | EntropySgdSettings, Field(discriminator="kind")]
    optimizer: Annotated[SgdSettings | AdamSettings, Field(discriminator="kind")]
    schedule: Annotated[MultiStepSettings | CyclicSettings, Field(discriminator="kind")]
    after_step: tuple[Annotated[AveragingSettings | ClippingSettings, Field(discriminator="kind")], ...] = ()
    monitor: MonitorSettings | None = None
    snapshot_every: PositiveInt | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    checkpoint: Literal["final", "best"] = "final"

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.monitor is None and self.checkpoint == "best":
            raise ValueError("the best checkpoint needs a monitor to choose it")
        used = {"those trained on": self.source.examples}
        if isinstance(self.source, UnlabeledSettings) and isinstance(self.source.unlabeled, WithheldSettings):
            used["the unlabeled"] = self.source.unlabeled.examples
        if self.monitor is not None and self.monitor.split is Split.TRAIN:
            used["the monitor's"] = self.monitor.examples
        for (one, first), (other, second) in combinations(used.items(), 2):
            if first.start < second.stop and second.start < first.stop:
                raise ValueError(
                    f"{other} examples {second.start} … {second.stop} overlap {one}, {first.start} … {first.stop}"
                )
        return self

    @property
    def family(self) -> str:
        """The file this recipe stands in."""
        return self.name.partition("/")[0]

    @property
    def changes(self) -> tuple[str, ...]:
        """What was changed in the variant of the file, each as `path=value`."""
        return tuple(shlex.split(self.name)[1:])

    def label(self, seed: int) -> str:
        """Return the title with what tells trainings of the variant apart: its changes, and a seed that is not 0."""
        particulars = [*self.changes, *([f"seed {seed}"] if seed else [])]
        return f"{self.title} ({', '.join(particulars)})" if particulars else self.title

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides the weights on the way, as 64 hexadecimal digits.

        Words do not, and neither does `checkpoint`: recipes that differ in it alone share one training.
        """
        return hashlib.sha256(json.dumps(self.training, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def training(self) -> dict[str, Any]:
        """All settings that decide the weights on the way, as JSON has them."""
        return self.model_dump(mode="json", exclude=set(_NOT_OF_THE_TRAINING))


def list_recipes(family: str | None = None) -> tuple[Recipe, ...]:
    """Return every shipped recipe, family by family in the files' order, or those of one family.

    Raises:
        InvalidRequest: no such family; the message names the nearest choice.
    """
    families = {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}
    if family is not None and family not in families:
        raise InvalidRequest(f"no family of recipes is called {family!r}; {_nearest(family, families)}")
    chosen = families.values() if family is None else [families[family]]
    return tuple(recipe for path in chosen for recipe in _family(path).values())


def load_recipe(name: str) -> Recipe:
    """Return the recipe called `family/variant`, for example `digits/at`, with the changes its name tells, if any.

    Raises:
        InvalidRequest: there is none, or a change does not fit; the message names the nearest choice.
    """
    variant, _, changes = name.partition(" ")
    recipes = {recipe.name: recipe for recipe in list_recipes()}
    if variant not in recipes:
        raise InvalidRequest(f"no recipe is called {variant!r}; {_nearest(variant, recipes)}")
    return override(recipes[variant], _changes(changes))


def list_sweeps(family: str) -> tuple[Recipe, ...]:
    """Return the variants of a family with one setting swept, as its file's `[sweeps.<variant>]` tables say.

    Each such table holds lists of values by dotted path. What equals the variant itself is left out.
    """
    path = FOLDER / f"{family}.toml"
    sweeps = tomllib.loads(path.read_text(encoding="utf-8")).get("sweeps", {})
    variants = {variant: _family(path)[variant] for variant in sweeps}
    swept = [
        (variants[variant], override(variants[variant], {setting: json.dumps(value)}))
        for variant, settings in sweeps.items()
        for setting, values in settings.items()
        for value in values
    ]
    return tuple(recipe for variant, recipe in swept if recipe.digest != variant.digest)


def override(recipe: Recipe, changes: Mapping[str, str]) -> Recipe:
    """Return `recipe` with settings changed, each by its dotted path, such as `optimizer.weight_decay` = "0.01".

    Values are read as JSON where they are JSON, else as plain words. The name tells what was changed, as the words of a
    command line, and `load_recipe` understands it.

    Raises:
        InvalidRequest: an unknown path, or a value its setting does not take.
    """
    if not changes:
        return recipe
    settings = recipe.model_dump(mode="json")
    for path, text in changes.items():
        *parents, last = path.split(".")
        table: Any = settings
        for key in parents:
            if isinstance(table, list):  # such as after_step.0.decay
                table = dict(zip(map(str, range(len(table))), table, strict=True))
            table = table.get(key) if isinstance(table, dict) else None
        if not isinstance(table, dict):
            raise InvalidRequest(f"recipe {recipe.name} has no setting {path!r}; {_nearest(path, settings)}")
        if last not in table and parents != ["options"]:
            place = f" in {'.'.join(parents)}" if parents else ""
            raise InvalidRequest(f"recipe {recipe.name} has no setting {last!r}{place}; {_nearest(last, table)}")
        table[last] = _json_or_word(text)
    words = shlex.join(f"{path}={text}" for path, text in changes.items())
    settings["name"] = f"{recipe.name} {words}"
    return _validated(settings)


def _changes(words: str) -> dict[str, str]:
    """Return the changes that the words of a command line tell, each as `path=value`."""
    try:
        pairs = [word.partition("=") for word in shlex.split(words)]
    except ValueError as error:
        raise InvalidRequest(f"the changes {words!r} cannot be read ({error}); quote them as for a shell") from error
    for path, equals, value in pairs:
        if not (path and equals):
            raise InvalidRequest(f"a change is written key=value, as in epochs=20; got {path + equals + value!r}")
    return {path: value for path, _, value in pairs}


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return what to say of the choices there are: the nearest first."""
    choices = sorted(known)
    close = get_close_matches(name, choices, n=1, cutoff=0.7)
    return (f"did you mean {close[0]!r}? There are " if close else "there are ") + ", ".join(choices)


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
        place = "".join(f", {part}" if number == 0 else f".{part}" for number, part in enumerate(first["loc"]))
        seen = "" if isinstance(first["input"], dict) else f", got {first['input']!r:.80}"
        reason = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"recipe {settings['name']}{place}: {reason}{seen}") from error


def _json_or_word(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value
