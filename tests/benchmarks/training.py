"""Adversarial training by a recipe, and by the loop that public code writes: the same batches, starts and losses."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from evaluator.architectures import build, parse_options
from evaluator.datasets import load_dataset
from evaluator.types import Split
from trainers.loop import train
from trainers.recipe import load_recipe, override
from trainers.schedules import factor
from trainers.settings import PgdAttackSettings
from trainers.state import Generators

RECIPE = override(load_recipe("digits/at"), {"epochs": "3", "monitor": "null"})
SEED = 0


def by_recipe() -> list[float]:
    """Train for a few epochs; return the loss of each."""
    with TemporaryDirectory() as folder:
        variant = train(RECIPE, seed=SEED, folder=Path(folder))
        return [json.loads(line)["loss"] for line in variant.log.read_text().splitlines()]


def by_plain_loop(layout: torch.memory_format = torch.contiguous_format) -> list[float]:
    """Do the same with a DataLoader, tensors in the usual layout, and weight gradients in the attack too."""
    dataset, generators = load_dataset(RECIPE.dataset), Generators(SEED, ("order", "labels", "attack"))
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = build(RECIPE.architecture, parse_options(RECIPE.architecture, dict(RECIPE.options)), dataset.facts)
    model = model.to(memory_format=layout)
    settings = RECIPE.optimizer.model_dump(exclude={"kind", "learning_rate"})
    optimizer = torch.optim.SGD(model.parameters(), lr=RECIPE.optimizer.learning_rate, **settings)
    chosen = RECIPE.source.examples
    examples = TensorDataset(*dataset.examples(Split.TRAIN, chosen.start, chosen.stop))
    losses = []
    for epoch in range(RECIPE.epochs):
        order = torch.randperm(len(examples), generator=generators["order"]).tolist()
        loader = DataLoader(examples, batch_size=RECIPE.source.batch_size, sampler=order)
        total = 0.0
        for number, (images, labels) in enumerate(loader):
            progress = (epoch + number / len(loader)) / RECIPE.epochs
            optimizer.param_groups[0]["lr"] = RECIPE.optimizer.learning_rate * factor(RECIPE.schedule, progress)
            adversarial = _attacked(model, images.contiguous(memory_format=layout), labels, generators["attack"])
            optimizer.zero_grad()
            loss = F.cross_entropy(model(adversarial), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total / len(loader))
    return losses


def _attacked(model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    attack = RECIPE.attack
    assert isinstance(attack, PgdAttackSettings)
    model.eval()
    x = (images + (2 * torch.rand(images.shape, generator=generator) - 1) * attack.epsilon).clamp(0, 1)
    worst, found = torch.full((len(images),), -torch.inf), x
    for step in range(attack.steps + 1):
        x = x.detach().requires_grad_()
        losses = F.cross_entropy(model(x), labels, reduction="none")
        better = losses.detach() > worst
        worst = torch.where(better, losses.detach(), worst)
        found = torch.where(better[:, None, None, None], x.detach(), found)
        if step < attack.steps:
            model.zero_grad()
            losses.sum().backward()
            x = x.detach() + attack.step_size * x.grad.sign()
            x = torch.maximum(torch.minimum(x, images + attack.epsilon), images - attack.epsilon).clamp(0, 1)
    model.train()
    return found
