"""From a recipe to the parts of its training, each looked up by its `kind`; no part knows another's kind."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from evaluator.architectures import build, parse_options
from evaluator.datasets import Dataset, load_dataset
from evaluator.seeding import GeneratorNoise
from trainers.after_step import AFTER_STEP, attach
from trainers.inner_max import maximise
from trainers.monitors import Monitor
from trainers.objectives import OBJECTIVES, Objective
from trainers.processes import Processes, SharedNoise
from trainers.recipe import Recipe
from trainers.settings import AttackSettings
from trainers.sources import SOURCES, Batch, Source
from trainers.state import Generators, OptimizerState, Stateful
from trainers.steppers import STEPPERS, Closure, Stepper
from trainers.training_loss import TrainingLoss

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"sgd": SGD, "adam": Adam}
"""Every optimizer by the `kind` a recipe says; arguments are the parameters and the recipe's other settings."""


@dataclass(frozen=True)
class Assembly:
    """The parts of one training. `outcome` is the network it yields: `model`, or an average of it.

    Where several processes train, each draws the same batches and noise, attacks its share of them on `model`, and
    learns by `parallel_loss`, whose gradients are those of the whole batch.
    """

    device: torch.device
    processes: Processes
    model: nn.Module
    outcome: nn.Module
    source: Source
    attack: AttackSettings
    attack_noise: torch.Generator
    weight_noise: torch.Generator
    loss: TrainingLoss
    parallel_loss: nn.Module
    stepper: Stepper
    optimizer: Optimizer
    monitor: Monitor | None
    stateful: dict[str, Stateful]

    def step(self) -> Tensor:
        """Update the weights once; return the loss of this process's share, detached: their mean is the batch's."""
        return self.stepper.step(self.model, self.optimizer, self.fresh, self.weight_noise)

    def fresh(self) -> Closure:
        """Draw a batch and attack it at the current weights; return its loss at whatever the weights are then."""
        whole, share = self.source.draw(), self.processes.share
        examples = len(whole.images)
        batch = Batch(share(whole.images), share(whole.labels), share(whole.targets))
        noise = SharedNoise(GeneratorNoise(self.attack_noise), self.processes, examples)
        adversarial = maximise(self.model, batch.images, lambda: self.loss.gain(batch), self.attack, noise)

        def closure() -> Tensor:
            loss: Tensor = self.processes.weight(examples) * self.parallel_loss(batch, adversarial)
            self.processes.unite(self.model)
            return loss

        return closure


def assemble(recipe: Recipe, *, seed: int, device: torch.device, data_dir: Path | None) -> Assembly:
    """Return all parts of `recipe` as they stand before the first step."""
    dataset = load_dataset(recipe.dataset, data_dir=data_dir)
    generators = Generators(seed, ("order", "labels", "attack", "weights"))
    source = SOURCES[recipe.source.kind](
        recipe.source,
        dataset,
        data_dir=data_dir,
        device=device,
        order=generators["order"],
        noise=generators["labels"],
    )
    objective = OBJECTIVES[recipe.objective.kind](**_settings(recipe.objective))
    model, head = _initial(recipe, seed, dataset, objective)
    outcome = model.to(device)
    head.to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not declared; 1.4 × faster on a CPU
    optimizer = OPTIMIZERS[recipe.optimizer.kind](
        [parameter for part in (model, head) for parameter in part.parameters() if parameter.requires_grad],
        lr=recipe.optimizer.learning_rate,
        fused=device.type == "cuda",
        **_settings(recipe.optimizer, "learning_rate"),
    )
    stateful: dict[str, Stateful] = {
        "model": model,
        "head": head,
        "optimizer": OptimizerState(optimizer),
        "source": source,
        "generators": generators,
    }
    for number, settings in enumerate(recipe.after_step):
        part = AFTER_STEP[settings.kind](model, **_settings(settings))
        attach(part, optimizer)
        stateful[f"after step {number}"] = part
        outcome = part.outcome or outcome
    loss = TrainingLoss(objective, model, head, recipe, device)
    processes = Processes.present()
    return Assembly(
        device=device,
        processes=processes,
        model=model,
        outcome=outcome,
        source=source,
        attack=recipe.attack,
        attack_noise=generators["attack"],
        weight_noise=generators["weights"],
        loss=loss,
        parallel_loss=processes.parallel(loss),
        stepper=STEPPERS[recipe.stepper.kind](**_settings(recipe.stepper)),
        optimizer=optimizer,
        monitor=Monitor.on(dataset, recipe.monitor, device=device, seed=seed) if recipe.monitor else None,
        stateful=stateful,
    )


def _settings(part: BaseModel, *but: str) -> dict[str, Any]:
    return part.model_dump(exclude={"kind", *but})


def _initial(recipe: Recipe, seed: int, dataset: Dataset, objective: Objective) -> tuple[nn.Module, nn.Module]:
    options = parse_options(recipe.architecture, dict(recipe.options))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # initialisers of torch know no generator argument
        model = build(recipe.architecture, options, dataset.facts)
        return model, objective.head(model)
