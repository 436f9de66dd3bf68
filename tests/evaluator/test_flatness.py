"""Flatness equals its definition, leaves no bit behind, and does not change where the function does not."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from evaluator.datasets import load_dataset
from evaluator.flatness.neighborhood import perturbed_tensors, sphere_sample
from evaluator.flatness.perturbation import perturbed
from evaluator.plan import plan
from evaluator.seeding import ExampleNoise, Purpose
from evaluator.shipped import SMOKE
from evaluator.stages import measure
from evaluator.types import Neighborhood, Split
from tests.evaluator.models import small_cnn, without_autoattack

XI = Neighborhood(0.25)


def test_only_conv_and_linear_tensors_are_perturbed_each_on_its_own_sphere():
    model = small_cnn()
    offsets = sphere_sample(model, XI, seed=0, sample=0)
    assert list(offsets) == ["0.weight", "0.bias", "3.weight", "3.bias", "6.weight", "6.bias"]
    for name, offset in offsets.items():
        assert offset.norm().item() == pytest.approx(0.25 * model.get_parameter(name).norm().item(), rel=1e-5)


def test_shared_tensors_are_perturbed_once_and_zero_tensors_not_at_all():
    shared = nn.Linear(3, 3)
    nn.init.zeros_(shared.bias)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    assert list(perturbed_tensors(model)) == ["0.weight", "0.bias"]
    assert list(sphere_sample(model, XI, seed=0, sample=0)) == ["0.weight"]


def test_weights_are_restored_bit_for_bit_also_after_an_error():
    model = small_cnn()
    before = copy.deepcopy(model.state_dict())
    offsets = sphere_sample(model, XI, seed=0, sample=1)

    def fail_at_other_weights():
        with perturbed(model, offsets):
            assert not torch.equal(model.state_dict()["0.weight"], before["0.weight"])
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail_at_other_weights()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_flatness_equals_an_independent_computation_from_the_definition():
    model, attack = small_cnn(), SMOKE.flatness.attack
    images, labels = load_dataset("digits").examples(Split.TEST, 0, 12)

    def worst_loss(network, purpose, repetition):
        u = ExampleNoise(0, purpose, Split.TEST, range(12), repetition).uniform(images.shape)
        x = (images + (2 * u - 1) * 0.15).clamp(0, 1)
        worst = torch.full((12,), -torch.inf)
        for _ in range(attack.steps + 1):
            x = x.detach().requires_grad_()
            loss = F.cross_entropy(network(x), labels, reduction="none")
            worst = torch.maximum(worst, loss.detach())
            step = x + attack.step_size * torch.autograd.grad(loss.sum(), x)[0].sign()
            x = torch.maximum(torch.minimum(step.clamp(0, 1), images + 0.15), images - 0.15)
        return worst

    reference = torch.stack([worst_loss(model, Purpose.ROBUST_LOSS_START, r) for r in range(2)]).amax(0)
    raised = []
    for k in range(SMOKE.flatness.samples):
        moved = copy.deepcopy(model)
        for name, offset in sphere_sample(model, SMOKE.flatness.neighborhood, seed=0, sample=k).items():
            moved.get_parameter(name).data += offset
        raised.append((worst_loss(moved, Purpose.FLATNESS_START, k) - reference).mean())
    result = without_autoattack(model, SMOKE)
    assert result.measurement("robust_loss_test").value == pytest.approx(reference.mean().item(), abs=1e-5)
    assert result.measurement("flatness_test").value == pytest.approx(torch.stack(raised).mean().item(), abs=1e-5)


def scaled_convolution_and_batch_norm(model, factor):
    convolution, norm = model[0], model[1]
    convolution.weight.data *= factor
    convolution.bias.data *= factor
    norm.running_mean *= factor
    norm.running_var.copy_(factor**2 * (norm.running_var + norm.eps) - norm.eps)


def scaled_across_relu(model, factor):
    model[3].weight.data *= factor
    model[3].bias.data *= factor
    model[6].weight.data /= factor


@pytest.mark.parametrize("rescale", [scaled_convolution_and_batch_norm, scaled_across_relu], ids=lambda f: f.__name__)
@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_flatness_does_not_change_when_a_rescaling_leaves_the_function_alone(rescale, factor):
    model = small_cnn()
    other = copy.deepcopy(model)
    rescale(other, factor)
    first, second = without_autoattack(model, SMOKE), without_autoattack(other, SMOKE)
    for column in ("robust_loss_test", "flatness_test", "flatness_train"):
        assert second.measurement(column).value == pytest.approx(first.measurement(column).value, rel=1e-3, abs=1e-4)


def test_scaling_the_logits_does_change_it():
    model = small_cnn()
    other = copy.deepcopy(model)
    other[6].weight.data *= 3
    other[6].bias.data *= 3
    flatness = [without_autoattack(m, SMOKE).measurement("flatness_test").value for m in (model, other)]
    assert flatness[1] > 1.5 * flatness[0]


def test_a_sharp_minimum_is_measured_as_sharp():
    # Over-trained on few images, margins depend on exact weights; barely trained, the loss hardly moves.
    barely, long = (
        without_autoattack(small_cnn(steps=steps), SMOKE).measurement("flatness_test").value for steps in (2, 200)
    )
    assert long > barely + 0.1


def test_measuring_a_shard_restores_weights_modes_and_flags():
    model = small_cnn().train()
    before = copy.deepcopy(model.state_dict())
    shards = [spec for spec in plan(SMOKE) if spec.weight_sample is not None]
    measure(model, load_dataset("digits"), SMOKE, shards[0])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
