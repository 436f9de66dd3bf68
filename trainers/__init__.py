"""Trainers: reference variants of adversarial training, from recipes to checkpoints the evaluator can measure.

    from pathlib import Path
    from trainers.recipe import load_recipe, override
    from trainers.loop import train

    recipe = override(load_recipe("digits/at"), {"optimizer.weight_decay": "0.01"})
    variant = train(recipe, seed=0, folder=Path("var/training/at-decay-0"), progress=print)
    variant.checkpoint  # a safetensors file with its manifest inside

`python -m trainers` does it from a terminal. `trainers.recipe` is torch-free; the same call again continues what was
interrupted. docs/training.md tells more.
"""
