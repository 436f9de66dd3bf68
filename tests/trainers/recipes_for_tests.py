"""Recipes small enough to train within a second."""

from trainers.recipe import Recipe, load_recipe, override

TINY = {
    # Not 4: of 4 channels, channels last, oneDNN's AVX2 kernel for weight gradients of 1 × 1 convolutions writes past
    # its memory (torch 2.13, one thread).
    "options.width": "8",
    "epochs": "4",
    "source.examples.stop": "40",
    "source.batch_size": "16",
    "monitor.examples.stop": "420",
    "monitor.attack.steps": "2",
    "monitor.every": "2",
}


def tiny(name: str, **changes: str) -> Recipe:
    """Return the named digits recipe, shrunk; `changes` use two underscores for a dot."""
    recipe = load_recipe(f"digits/{name}")
    attack = {"attack.steps": "2"} if recipe.attack.kind == "pgd" else {}
    return override(recipe, TINY | attack | {path.replace("__", "."): value for path, value in changes.items()})
