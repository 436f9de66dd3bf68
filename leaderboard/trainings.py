"""Which training a checkpoint comes from, and what is published of one (pure)."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from evaluator.exceptions import InvalidRequest
from evaluator.protocol import EvaluationProtocol
from evaluator.results import Measurement as Number
from leaderboard.columns import EARLY_STOPPED, stopped_of
from trainers.recipe import list_recipes, load_recipe

_EPOCH = re.compile(r"(\d{1,6}) of (\d{1,6})")
_SEED = re.compile(r"\d{1,10}")

Key = tuple[str, int]
"""A training by the digest of its recipe and its seed; recipes that choose another snapshot of it share the digest."""


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint of one of our trainings comes from: its `recipe` after `epoch` of `epochs`."""

    recipe: str
    digest: str
    seed: int
    epoch: int
    epochs: int

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Origin | None":
        """Return what a manifest says, or None where it does not say all of it. Only a reference's can be believed."""
        notes, recipe = manifest["notes"], manifest["recipe"]
        epoch = _EPOCH.fullmatch(notes.get("epoch", ""))
        seed = _SEED.fullmatch(notes.get("seed", ""))
        if not (recipe and notes.get("recipe_digest") and epoch and seed):
            return None
        return cls(recipe, notes["recipe_digest"], int(seed[0]), int(epoch[1]), int(epoch[2]))

    @property
    def training(self) -> Key:
        """The training, whichever of its recipes the checkpoint names."""
        return self.digest, self.seed

    @property
    def early_stopped(self) -> bool:
        """Whether it is the snapshot before the end that a recipe of this training takes for its outcome."""
        return self.epoch < self.epochs and (self.digest in _early_stopping() or _early_stops(self.recipe))


@dataclass(frozen=True)
class Snapshot:
    """A published checkpoint of a training with its numbers by column, under the protocol of a digest."""

    origin: Origin
    slug: str
    title: str
    url: str
    protocol: str
    version: int
    digest: str
    numbers: Mapping[str, Number]

    @property
    def label(self) -> str:
        """The protocol as people write it, for example `digits-curve v1`."""
        return f"{self.protocol} v{self.version}"


@dataclass(frozen=True)
class Training:
    """All that is published of one training, what was published last at the end."""

    key: Key
    snapshots: tuple[Snapshot, ...]

    def under(self, protocols: Collection[str]) -> list[Snapshot]:
        """Return what was measured under any of the protocols, named by digest, epoch by epoch.

        Where an epoch was measured twice under one protocol, what was published last counts.
        """
        found = {(one.origin.epoch, one.digest): one for one in self.snapshots if one.digest in protocols}
        return [found[key] for key in sorted(found)]

    @property
    def by_protocol(self) -> list[tuple[str, list[Snapshot]]]:
        """The snapshots of each protocol, epoch by epoch."""
        labels = {one.digest: one.label for one in self.snapshots}
        return [(label, self.under({digest})) for digest, label in sorted(labels.items(), key=lambda item: item[1])]

    def early_stopped(self, protocol: EvaluationProtocol) -> Snapshot | None:
        """Return the early-stopped snapshot whose robust error compares with those of `protocol`, if there is one."""
        return next(
            (
                one
                for digests in ({other.digest for other in stopped_of(protocol)}, {protocol.digest})
                for one in reversed(self.snapshots)
                if one.digest in digests and (one.digest != protocol.digest or one.origin.early_stopped)
            ),
            None,
        )


def as_early_stopped(number: Number) -> Number:
    """Return the robust error on test of an early-stopped snapshot as a number of its training."""
    return Number(EARLY_STOPPED.key, None, number.value, number.low, number.high, number.n)


@cache
def _early_stopping() -> frozenset[str]:
    """Return the digests of trainings of which a shipped recipe takes the early-stopped snapshot."""
    return frozenset(recipe.digest for recipe in list_recipes() if recipe.checkpoint == "best")


@lru_cache(maxsize=256)
def _early_stops(recipe: str) -> bool:
    """Say whether a recipe takes it, also one with changed settings."""
    try:
        return load_recipe(recipe).checkpoint == "best"
    except InvalidRequest:
        return False
