from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluator.protocol import Initialization
from evaluator.seeding import GeneratorNoise
from evaluator.types import Norm
from trainers.inner_max import maximise
from trainers.settings import NoAttackSettings, PgdAttackSettings


def settings(norm: Norm = Norm.LINF) -> PgdAttackSettings:
    return PgdAttackSettings(
        kind="pgd", norm=norm, epsilon=0.1, steps=3, step_size=0.05, initialization=Initialization.UNIFORM
    )


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(), nn.Linear(108, 4))


def attacked(model: nn.Module, seed: int = 0, **changes: Any) -> tuple[Tensor, Tensor, Any]:
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    labels = torch.arange(6) % 4
    modes: list[tuple[bool, bool]] = []

    def gain(candidates: Tensor) -> Tensor:
        modes.append((model.training, any(parameter.requires_grad for parameter in model.parameters())))
        return F.cross_entropy(model(candidates), labels, reduction="none")

    noise = GeneratorNoise(torch.Generator().manual_seed(seed))
    return images, maximise(model, images, lambda: gain, changes.get("settings", settings()), noise), modes


@pytest.mark.parametrize("norm", Norm)
def test_the_budget_and_the_box_are_kept_and_used(norm: Norm) -> None:
    images, adversarial, _ = attacked(network(), settings=settings(norm))
    offset = (adversarial - images).flatten(1)
    size = offset.abs().amax(1) if norm is Norm.LINF else offset.norm(dim=1)
    assert size.max() <= 0.1 + 1e-6
    assert size.min() > 0.01
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


def test_the_network_is_attacked_in_eval_mode_with_frozen_weights_and_left_as_it_was() -> None:
    model = network().train()
    model[4].bias.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _, adversarial, modes = attacked(model)
    assert set(modes) == {(False, False)}
    assert all(module.training for module in model.modules())
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == ["4.bias"]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not adversarial.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_network_is_left_as_it_was_also_after_an_error() -> None:
    model = network().train()

    def broken(_candidates: Tensor) -> Tensor:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        maximise(model, torch.rand(2, 1, 8, 8), lambda: broken, settings(), GeneratorNoise(torch.Generator()))
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_generator_decides_the_start() -> None:
    model = network()
    same, again, other = (attacked(model, seed)[1] for seed in (0, 0, 1))
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_no_attack_returns_the_images_and_draws_nothing() -> None:
    images = torch.rand(2, 1, 8, 8)
    generator = torch.Generator().manual_seed(3)
    state = generator.get_state()
    noise = GeneratorNoise(generator)
    assert maximise(network(), images, lambda: pytest.fail("asked"), NoAttackSettings(kind="none"), noise) is images
    assert torch.equal(generator.get_state(), state)
