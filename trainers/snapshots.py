"""A network on its way as a checkpoint that says where it comes from."""

import importlib.metadata
import platform
from pathlib import Path

from torch import nn

from evaluator.checkpoints import save_checkpoint
from evaluator.manifest import Manifest
from trainers.recipe import Recipe
from trainers.state import Cursor

LIBRARIES = ("torch", "numpy")


def save_snapshot(model: nn.Module, path: Path, recipe: Recipe, cursor: Cursor) -> None:
    """Write `model` to `path` with a manifest that names recipe, digest, seed, epoch and library versions.

    No time stands in it: the same training gives the same bytes, and so the same address.
    """
    notes = {
        "recipe_digest": recipe.digest,
        "seed": str(cursor.seed),
        "epoch": f"{cursor.epoch} of {recipe.epochs}",
        "python": platform.python_version(),
    } | {library: importlib.metadata.version(library) for library in LIBRARIES}
    manifest = Manifest(
        architecture=recipe.architecture,
        options=dict(recipe.options),
        dataset=recipe.dataset,
        recipe=recipe.name,
        notes=notes,
    )
    save_checkpoint(model, manifest, path)
