"""Worst-case flatness: the ν that joint ascent finds stays in its ball, is worse than chance, and leaves no trace."""

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluator.combine import combine
from evaluator.datasets import load_dataset
from evaluator.exceptions import InvalidRequest
from evaluator.flatness import worst_case
from evaluator.flatness.neighborhood import displacement
from evaluator.metrics import StageName
from evaluator.plan import Cost, cut, plan
from evaluator.protocol import Examples, WorstCaseSettings
from evaluator.results import ShardSpec
from evaluator.shipped import CIFAR10_SHAPE, DIGITS_SHAPE, SMOKE
from evaluator.stages import measure
from evaluator.types import Neighborhood, Norm, Split, ThreatModel
from tests.evaluator.models import measured, small_cnn
from tests.evaluator.test_flatness import scaled_across_relu, scaled_convolution_and_batch_norm

XI = 0.02
SOME, NOTHING = Examples(test=12, train=0), Examples(test=0, train=0)
WORST = replace(
    SMOKE,
    clean_examples=NOTHING,
    autoattack_examples=NOTHING,
    robust_loss_examples=SOME,
    flatness=replace(SMOKE.flatness, neighborhood=Neighborhood(XI)),
    flatness_examples=SOME,
    worst_case=WorstCaseSettings(xi=XI, steps=8, step_size=0.25, restarts=2, examples=SOME),
)
"""Average and worst case in one ball, from the same starts."""


@pytest.fixture(scope="module")
def model():
    return small_cnn()


@pytest.fixture(scope="module")
def shards(model):
    return measured(model, WORST)


@pytest.fixture(scope="module")
def whole(shards):
    return combine(WORST, shards)


def found(model, restart, *, settings=WORST.worst_case, threat_model=WORST.threat_model):
    images, labels = load_dataset("digits").examples(Split.TEST, 0, 12)
    return worst_case.worst_offsets(
        model, images, labels, images + 0.1, threat_model=threat_model, input_step=0.06,
        settings=settings, seed=0, restart=restart, batch_size=5,
    )  # fmt: skip  # one call


def test_every_tensor_stays_in_its_ball_and_goes_elsewhere_than_it_began(model):
    began = displacement(model, XI, seed=0, direction=1)
    offsets = found(model, 1)
    assert list(offsets) == list(began)
    for name, offset in offsets.items():
        assert offset.norm() <= XI * model.get_parameter(name).norm() * (1 + 1e-5)
    assert any((offset - began[name]).norm() > 0.5 * began[name].norm() for name, offset in offsets.items())


def test_the_best_iterate_is_kept_although_steps_overshoot(model):
    images, labels = load_dataset("digits").examples(Split.TEST, 0, 12)

    def loss_at(offsets):
        moved = copy.deepcopy(model)
        for name, offset in offsets.items():
            moved.get_parameter(name).data += offset
        return torch.nn.functional.cross_entropy(moved(images), labels).item()

    unmoved = ThreatModel(Norm.LINF, 1e-9)  # so that the loss is one of the weights alone
    wild = replace(WORST.worst_case, step_size=1e6)  # each step goes as far through the ball as it can
    reached = [
        loss_at(found(model, 0, settings=replace(wild, steps=steps), threat_model=unmoved)) for steps in (1, 2, 5, 9)
    ]
    assert reached == pytest.approx(sorted(reached), abs=1e-6)
    assert reached[0] > loss_at(displacement(model, XI, seed=0, direction=0))


def test_the_worst_case_is_worse_than_the_average_and_is_the_largest_over_restarts(shards, whole):
    worst, average = whole.measurement("worst_case_flatness_test"), whole.measurement("flatness_test")
    assert worst.value > average.value + 0.05
    assert worst.low <= worst.value <= worst.high
    of = {s.spec.weight_sample: np.array(s.values["loss"]) for s in shards if s.spec.stage is StageName.WORST_CASE}
    (at_w,) = (np.array(s.values["loss"]) for s in shards if s.spec.stage is StageName.ROBUST_LOSS)
    assert worst.value == pytest.approx(max(loss.mean() for loss in of.values()) - at_w.max(1).mean())
    assert len(of) == WORST.worst_case.restarts


@pytest.mark.parametrize("rescale", [scaled_convolution_and_batch_norm, scaled_across_relu], ids=lambda f: f.__name__)
def test_it_does_not_change_when_a_rescaling_leaves_the_function_alone(model, whole, rescale):
    other = copy.deepcopy(model)
    rescale(other, 3.0)
    assert any(not torch.equal(one, other.get_parameter(name)) for name, one in model.named_parameters())
    again = combine(WORST, measured(other, WORST)).measurement("worst_case_flatness_test")
    assert again.value == pytest.approx(whole.measurement("worst_case_flatness_test").value, rel=1e-2)


def test_any_batch_size_and_order_give_the_same_number(model, shards, whole):
    expected = whole.measurement("worst_case_flatness_test")
    again = combine(WORST, measured(model, WORST, batch_size=5)).measurement("worst_case_flatness_test")
    assert again.value == pytest.approx(expected.value, abs=1e-3)
    assert combine(WORST, random.Random(0).sample(shards, len(shards))).measurements == whole.measurements


def test_weights_gradients_and_flags_are_as_before(model):
    before = copy.deepcopy(model.state_dict())
    spec = next(spec for spec in plan(WORST) if spec.stage is StageName.WORST_CASE)
    result = measure(model, load_dataset("digits"), WORST, spec)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    steps, attack = WORST.worst_case.steps, WORST.flatness.attack.steps
    assert (result.passes.forward, result.passes.backward) == (12 * (steps + 1 + attack + 1), 12 * (steps + attack))


def test_a_restart_is_never_cut_as_its_weights_are_moved_for_all_examples_alike():
    whole = ShardSpec(StageName.WORST_CASE, Split.TEST, 0, 500, 3)
    assert cut(CIFAR10_SHAPE, whole, last=Cost(500, 1e6), target_seconds=1) == (whole, None)


@pytest.mark.parametrize("shape", [DIGITS_SHAPE, CIFAR10_SHAPE], ids=lambda protocol: protocol.name)
def test_shipped_protocols_take_the_radius_of_the_paper_and_as_many_steps_of_both_kinds(shape):
    assert shape.worst_case.xi == 0.003
    assert shape.worst_case.steps == shape.flatness.attack.steps


def test_settings_that_search_nothing_are_refused():
    with pytest.raises(InvalidRequest, match="needs a radius, steps and restarts above 0"):
        replace(WORST.worst_case, restarts=0)
