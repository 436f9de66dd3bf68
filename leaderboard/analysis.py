"""What the reference entries of a study are: variants over their seeds, sweeps, curves on the way (pure).

The paper is D. Stutz, M. Hein, B. Schiele, "Relating Adversarially Robust Generalization to Flat Minima" (2021).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from evaluator.protocol import EvaluationProtocol
from evaluator.results import Measurement
from trainers.recipe import Recipe, list_recipes

PAPER = "Stutz, Hein, Schiele 2021, Table 1"
"""The source of the paper's rows among the reported results."""


@dataclass(frozen=True)
class Study:
    """A family of recipes, and the protocols of its final, early-stopped and intermediate checkpoints."""

    family: str
    protocol: str
    stopped: str
    curve: str


STUDIES: dict[str, Study] = {
    "digits": Study("digits", "digits-demo", "digits-stopped", "digits-curve"),
    "stutz2021": Study("stutz2021", "stutz2021-cifar10", "stutz2021-stopped", "stutz2021-curve"),
}


@dataclass(frozen=True)
class Measured:
    """A published checkpoint of a recipe, after `epoch` of its epochs."""

    recipe: Recipe
    seed: int
    epoch: int
    title: str
    url: str
    numbers: Mapping[str, Measurement]

    @property
    def epochs(self) -> int:
        """How long the whole training is."""
        return self.recipe.epochs


@dataclass(frozen=True)
class Spread:
    """The mean of a number over seeds, between the least and the greatest of them."""

    value: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        return cls(fmean(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Variant:
    """One recipe, measured with one or more seeds."""

    recipe: Recipe
    by_seed: Mapping[int, Measured]

    @cached_property
    def numbers(self) -> dict[str, Spread]:
        """Each number that all seeds have."""
        first, *others = (one.numbers for one in self.by_seed.values())
        shared = [key for key in first if all(key in numbers for numbers in others)]
        return {key: Spread.of([one.numbers[key].value for one in self.by_seed.values()]) for key in shared}

    @property
    def url(self) -> str:
        """The page of the first seed's entry."""
        return self.by_seed[min(self.by_seed)].url


@dataclass(frozen=True)
class Reported:
    """A row of the paper's Table 1: what it is called there, and its numbers."""

    method: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Evidence:
    """All that is published of a study; `reported` holds the paper's rows.

    `variants` are recipes as their file has them, at the end of training. The cheap protocol measured `curves`, which
    hold a recipe's checkpoints by epoch; `swept`, recipes with changed settings at the end of training; and `origins`,
    the unchanged ones of these.
    """

    study: Study
    protocol: EvaluationProtocol
    variants: tuple[Variant, ...]
    swept: tuple[Variant, ...]
    origins: Mapping[str, Variant]
    stopped: Mapping[str, Variant]
    curves: Mapping[str, Mapping[int, Variant]]
    reported: Mapping[int, Reported]

    @classmethod
    def of(
        cls,
        study: Study,
        protocol: EvaluationProtocol,
        *,
        final: Iterable[Measured] = (),
        stopped: Iterable[Measured] = (),
        curve: Iterable[Measured] = (),
        reported: Mapping[int, Reported] | None = None,
    ) -> "Evidence":
        """Sort what was measured under the three protocols of a study."""
        ended: dict[str, list[Measured]] = defaultdict(list)
        recipes = {}
        for one in final:
            recipe = _stands_for(one)
            if recipe is not None and recipe.family == study.family and not recipe.changes:
                recipes[recipe.name] = recipe
                ended[recipe.name].append(one)
        paths: dict[str, dict[int, list[Measured]]] = defaultdict(lambda: defaultdict(list))
        for one in curve:
            paths[one.recipe.name][one.epoch].append(one)
        curves = {
            name: {epoch: _over_seeds(path[epoch][0].recipe, path[epoch]) for epoch in sorted(path)}
            for name, path in paths.items()
        }
        ends = {name: path[max(path)] for name, path in curves.items() if max(path) == path[max(path)].recipe.epochs}
        return cls(
            study,
            protocol,
            variants=tuple(_over_seeds(recipes[name], group) for name, group in ended.items()),
            swept=tuple(end for end in ends.values() if end.recipe.changes),
            origins={name: end for name, end in ends.items() if not end.recipe.changes},
            stopped={name: _over_seeds(group[0].recipe, group) for name, group in _by_recipe(stopped).items()},
            curves={name: path for name, path in curves.items() if len(path) > 1},
            reported=reported or {},
        )

    @property
    def defended(self) -> tuple[Variant, ...]:
        """The variants trained against the adversary they are measured by: no clean training, no other norm."""
        return tuple(v for v in self.variants if not self.is_control(v.recipe))

    def is_control(self, recipe: Recipe) -> bool:
        """Whether a recipe trains against no adversary, or against one of another norm."""
        return recipe.attack.kind == "none" or recipe.attack.norm is not self.protocol.threat_model.norm

    @property
    def baseline(self) -> str:
        """The name of plain adversarial training."""
        return f"{self.study.family}/at"


def _stands_for(one: Measured) -> Recipe | None:
    """Return the recipe whose outcome a checkpoint is.

    Recipes that choose another snapshot of the same training share its files, whose manifests name only one of them.
    """
    outcome = "final" if one.epoch == one.epochs else "best"
    if one.recipe.changes or one.recipe.checkpoint == outcome:
        return one.recipe if one.recipe.checkpoint == outcome else None
    alike = (r for r in list_recipes() if r.digest == one.recipe.digest and r.checkpoint == outcome)
    return next(alike, None)


def _by_recipe(measured: Iterable[Measured]) -> dict[str, list[Measured]]:
    groups: dict[str, list[Measured]] = defaultdict(list)
    for one in measured:
        groups[one.recipe.name].append(one)
    return groups


def _over_seeds(recipe: Recipe, measured: Iterable[Measured]) -> Variant:
    return Variant(recipe, {one.seed: one for one in sorted(measured, key=lambda one: one.seed)})
