"""The study: all variants of a family with several seeds, measured as the paper's table and figures need them.

Final checkpoints are measured in full, early-stopped ones by AutoAttack, snapshots on the way and swept settings by a
cheap protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from evaluator.environment import read_environment
from evaluator.protocol import EvaluationProtocol
from evaluator.shipped import find_protocol
from leaderboard import references
from leaderboard.analysis import Study
from leaderboard.models import Submission
from trainers.fleet import Report, train_all
from trainers.recipe import Recipe, list_recipes, list_sweeps, load_recipe

if TYPE_CHECKING:
    from trainers.loop import TrainedVariant

CURVES = ("at", "awp", "trades", "label-smoothing", "label-noise", "self-supervision", "weight-decay", "silu")
"""Variants whose snapshots are measured on their way, with the first seed: the ones of the paper's Fig. 5."""

FOLDER = settings.BASE_DIR / "var" / "study"
"""Where the reports of studies go, and the logs of their workers."""

Handed = tuple[Path, str, EvaluationProtocol]
"""A checkpoint, the title of its entry, and what measures it."""


@dataclass(frozen=True)
class Plan:
    """What a study trains; recipes swept over a setting take the first seed alone."""

    study: Study
    trainings: tuple[tuple[Recipe, int], ...]

    @classmethod
    def of(cls, study: Study, *, seeds: int, variants: Sequence[str] = (), sweeps: bool = True) -> "Plan":
        """Return the plan of a family's `variants` (default: all) with seeds 0 … `seeds` − 1.

        Raises:
            InvalidRequest: there is no such variant.
        """
        named = [load_recipe(f"{study.family}/{variant}") for variant in variants]
        recipes = named or [recipe for recipe in list_recipes() if recipe.family == study.family]
        trainings = [(recipe, seed) for seed in range(seeds) for recipe in recipes]
        names = {recipe.name for recipe in recipes}
        swept = [recipe for recipe in list_sweeps(study.family) if recipe.name.split()[0] in names]
        return cls(study, (*trainings, *((recipe, 0) for recipe in swept if sweeps)))

    def train(self, *, folder: Path, processes: int, report: Report) -> list["TrainedVariant"]:
        """Train everything, each in a folder of its own; what was trained before is not trained again."""
        device = read_environment().device
        return train_all(self.trainings, folder=folder, processes=processes, report=report, device=device)

    def handed_in(self, trained: Sequence["TrainedVariant"]) -> list[Handed]:
        """Return what is measured of finished trainings, the numbers that most depends on first."""
        full, stopped, curve = (
            find_protocol(name) for name in (self.study.protocol, self.study.stopped, self.study.curve)
        )
        followed = {f"{self.study.family}/{variant}" for variant in CURVES}
        origins = {recipe.name.split()[0] for recipe in list_sweeps(self.study.family)}
        finals: list[Handed] = []
        best: list[Handed] = []
        on_the_way: list[Handed] = []
        for one in trained:
            title = one.recipe.label(one.seed)
            if one.recipe.changes:
                on_the_way.append((one.checkpoint, title, curve))
                continue
            finals.append((one.checkpoint, title, full))
            if one.best is not None and one.recipe.row is not None:
                best.append((one.best, f"{title}, early stopped", stopped))
            if one.seed == 0:
                snapshots = one.snapshots if one.recipe.name in followed else ()
                ends = (one.final,) if one.recipe.name in followed | origins else ()
                on_the_way += [(path, f"{title}, {path.stem}", curve) for path in (*snapshots, *ends)]
        return [*finals, *best, *on_the_way]

    def submit(self, trained: Sequence["TrainedVariant"]) -> list[Submission]:
        """Hand in all that is measured; what was handed in before is found again."""
        return [references.submit(*one) for one in self.handed_in(trained)]
