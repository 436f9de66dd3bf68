from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trainers.steppers import STEPPERS, Awp, Closure, EntropySgd, Sgd


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))


def batches(model: nn.Module, evaluations: list[int]) -> Callable[[], Closure]:
    """Return a `fresh` that counts, in `evaluations`, how often each of its closures was called."""

    def fresh() -> Closure:
        images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(len(evaluations)))
        evaluations.append(0)
        number = len(evaluations) - 1

        def closure() -> Tensor:
            evaluations[number] += 1
            return model(images).logsumexp(1).mean()

        return closure

    return fresh


def test_sgd_steps_along_the_gradient_of_one_batch() -> None:
    weight = nn.Linear(1, 1, bias=False)
    nn.init.constant_(weight.weight, 3.0)
    optimizer = torch.optim.SGD(weight.parameters(), lr=0.1)
    loss = Sgd().step(weight, optimizer, lambda: lambda: (weight.weight**2).sum(), torch.Generator())
    assert loss.item() == 9.0
    assert weight.weight.item() == pytest.approx(3 - 0.1 * 6)


def test_awp_steps_along_the_gradient_at_the_perturbed_weights() -> None:
    # w = 3, loss w²: g = 6, v = 0.1 · 3 · 6/6 = 0.3, so the gradient is 2 · 3.3 and the loss 3.3².
    weight = nn.Linear(1, 1, bias=False)
    nn.init.constant_(weight.weight, 3.0)
    optimizer = torch.optim.SGD(weight.parameters(), lr=0.1)
    loss = Awp(gamma=0.1).step(weight, optimizer, lambda: lambda: (weight.weight**2).sum(), torch.Generator())
    assert loss.item() == pytest.approx(3.3**2)
    assert weight.weight.item() == pytest.approx(3 - 0.1 * 6.6)


def test_the_perturbation_is_gamma_times_the_weight_norm_on_conv_and_linear_weights_alone() -> None:
    model = network()
    batches(model, [])()().backward()
    offsets = Awp(gamma=0.02).ascent(model)
    assert set(offsets) == {"0.weight", "4.weight"}
    for name, offset in offsets.items():
        weight = model.get_parameter(name)
        assert offset.norm().item() == pytest.approx(0.02 * weight.norm().item(), rel=1e-5)
        assert weight.grad is not None
        assert nn.functional.cosine_similarity(offset.flatten(), weight.grad.flatten(), dim=0).item() == pytest.approx(
            1
        )


def test_awp_restores_every_weight_exactly() -> None:
    model = network()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    Awp(gamma=0.3).step(model, torch.optim.SGD(model.parameters(), lr=0.0), batches(model, []), torch.Generator())
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_awp_draws_one_batch_and_looks_at_it_twice() -> None:
    model, evaluations = network(), []
    Awp(gamma=0.1).step(
        model, torch.optim.SGD(model.parameters(), lr=0.1), batches(model, evaluations), torch.Generator()
    )
    assert evaluations == [2]


def test_awp_leaves_the_running_statistics_of_the_unperturbed_weights() -> None:
    statistics = []
    for stepper in (Sgd(), Awp(gamma=0.5)):
        model = network()
        stepper.step(model, torch.optim.SGD(model.parameters(), lr=0.1), batches(model, []), torch.Generator())
        statistics.append(dict(model.named_buffers()))
    assert statistics[0].keys() == statistics[1].keys()
    assert all(torch.equal(buffer, statistics[1][name]) for name, buffer in statistics[0].items())


def test_entropy_sgd_steps_towards_the_mean_of_its_walk() -> None:
    # From w = 3 on loss w², η = 0.1, γ = 1, α = 1/2: x = 3 − 0.1 · 6 = 2.4 and μ = 2.7, then
    # x = 2.4 − 0.1 · (4.8 − 0.6) = 1.98 and μ = 2.34; the outer rate of 1/2 goes half the way.
    weight = nn.Linear(1, 1, bias=False)
    nn.init.constant_(weight.weight, 3.0)
    optimizer = torch.optim.SGD(weight.parameters(), lr=0.5)
    stepper = EntropySgd(steps=2, step_size=0.1, noise=0.0, gamma=1.0, averaging=0.5)
    loss = stepper.step(weight, optimizer, lambda: lambda: (weight.weight**2).sum(), torch.Generator())
    assert loss.item() == pytest.approx((3**2 + 2.4**2) / 2)
    assert weight.weight.item() == pytest.approx(3 - 0.5 * (3 - 2.34))


def test_the_noise_of_entropy_sgd_grows_with_the_square_root_of_its_step() -> None:
    weight = nn.Linear(200, 100, bias=False)
    nn.init.zeros_(weight.weight)
    optimizer = torch.optim.SGD(weight.parameters(), lr=1.0)
    stepper = EntropySgd(steps=1, step_size=0.25, noise=2.0, gamma=0.0, averaging=0.0)
    stepper.step(weight, optimizer, lambda: lambda: 0 * weight.weight.sum(), torch.Generator().manual_seed(0))
    assert weight.weight.std().item() == pytest.approx(2 * 0.5, rel=0.02)


def test_entropy_sgd_draws_a_batch_an_inner_step_and_obeys_the_outer_rate() -> None:
    model, evaluations = network(), []
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    stepper = EntropySgd(steps=3, step_size=0.1, noise=0.1, gamma=0.1, averaging=0.75)
    stepper.step(model, torch.optim.SGD(model.parameters(), lr=0.0), batches(model, evaluations), torch.Generator())
    assert evaluations == [1, 1, 1]
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_no_stepper_is_left_untested() -> None:
    assert set(STEPPERS) == {"sgd", "awp", "entropy-sgd"}
