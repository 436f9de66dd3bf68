"""The shape of a minimum: robust loss around it, along the directions and by the attacks of average-case flatness."""

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from evaluator.attacks import pgd
from evaluator.combine import combine
from evaluator.datasets import load_dataset
from evaluator.exceptions import InvalidRequest, InvalidResult
from evaluator.metrics import CURVES, StageName
from evaluator.plan import plan
from evaluator.protocol import Examples, LandscapeSettings, to_json
from evaluator.results import Curve, EvaluationResult, ShardSpec, evaluation_from_json, evaluation_to_json
from evaluator.seeding import ExampleNoise, Purpose
from evaluator.shipped import CIFAR10_LINF, CIFAR10_SHAPE, DIGITS_DEMO, DIGITS_SHAPE, PROTOCOLS, SMOKE
from evaluator.stages import measure
from evaluator.types import Split
from tests.evaluator.models import measured, small_cnn
from tests.evaluator.test_flatness import scaled_across_relu, scaled_convolution_and_batch_norm

XI = SMOKE.flatness.neighborhood.xi
NOTHING, SOME = Examples(test=0, train=0), Examples(test=9, train=4)
SHAPE = replace(
    SMOKE,
    clean_examples=NOTHING,
    autoattack_examples=NOTHING,
    flatness_examples=SOME,
    landscape=LandscapeSettings((-XI, 0.0, 0.1, XI), SOME),
)
"""Flatness and landscape together, as no shipped protocol has them: the one has to contain the other."""


@pytest.fixture(scope="module")
def model():
    return small_cnn()


@pytest.fixture(scope="module")
def shards(model):
    return measured(model, SHAPE)


@pytest.fixture(scope="module")
def whole(shards):
    return combine(SHAPE, shards)


def curve(result: EvaluationResult, key: str, split: Split = Split.TEST) -> Curve:
    (found,) = (one for one in result.curves if (one.key, one.split) == (key, split))
    return found


def values(result: EvaluationResult) -> list[float]:
    return [point.value for curve in result.curves for point in curve.points]


def test_at_the_radius_of_flatness_every_outcome_is_that_of_flatness_to_the_last_bit(shards, whole):
    samples = SHAPE.flatness.samples
    first = SHAPE.landscape.positions.index(XI) * samples
    outcomes = {(s.spec.stage, s.spec.split, s.spec.weight_sample): s.values for s in shards}
    for split in Split:
        for k in range(samples):
            assert outcomes[StageName.LANDSCAPE, split, first + k] == outcomes[StageName.FLATNESS, split, k]
        last, flatness = curve(whole, "flatness_by_radius", split).points[-1], whole.measurement(f"flatness_{split}")
        assert (last.position, last.value, last.low, last.high) == (XI, flatness.value, flatness.low, flatness.high)


def test_the_curves_hold_every_position_and_each_direction_and_are_told_apart_by_the_reference(shards, whole):
    assert [(one.key, one.split, one.n) for one in whole.curves] == [
        (key, split, SHAPE.landscape.examples.count(split)) for key in CURVES for split in Split
    ]
    landscape, flatness = curve(whole, "landscape"), curve(whole, "flatness_by_radius")
    assert [point.position for point in landscape.points] == [-XI, 0.0, 0.1, XI]
    assert [point.position for point in flatness.points] == [0.1, XI]
    for point in (*landscape.points, *flatness.points):
        assert point.low <= point.value <= point.high
        assert len(point.by_direction) == SHAPE.flatness.samples
        assert np.mean(point.by_direction) == pytest.approx(point.value)
    (at_w,) = (s.values["loss"] for s in shards if (s.spec.stage, s.spec.split) == (StageName.ROBUST_LOSS, Split.TEST))
    reference = np.max(at_w, axis=1)[:9].mean()
    for raised, there in zip(flatness.points, landscape.points[2:], strict=True):
        assert raised.value == pytest.approx(there.value - reference)


def test_in_the_middle_the_network_itself_is_attacked_from_the_starts_of_each_direction(model, shards):
    images, labels = load_dataset("digits").examples(Split.TEST, 0, 9)
    middle = SHAPE.landscape.positions.index(0.0) * SHAPE.flatness.samples
    for direction in range(SHAPE.flatness.samples):
        noise = [ExampleNoise(SHAPE.seed, Purpose.FLATNESS_START, Split.TEST, range(9), direction)]
        found = pgd.attack(
            model, images, labels, threat_model=SHAPE.threat_model, settings=SHAPE.flatness.attack, noise=noise
        )
        spec = ShardSpec(StageName.LANDSCAPE, Split.TEST, 0, 9, middle + direction)
        (there,) = (shard for shard in shards if shard.spec == spec)
        assert np.allclose(there.values["loss"], found.loss, atol=1e-5)


@pytest.mark.parametrize("rescale", [scaled_convolution_and_batch_norm, scaled_across_relu], ids=lambda f: f.__name__)
def test_the_curves_do_not_change_when_a_rescaling_leaves_the_function_alone(model, whole, rescale):
    other = copy.deepcopy(model)
    rescale(other, 3.0)
    assert any(not torch.equal(one, other.get_parameter(name)) for name, one in model.named_parameters())
    assert values(combine(SHAPE, measured(other, SHAPE))) == pytest.approx(values(whole), rel=1e-3, abs=1e-4)


def test_any_batch_size_and_any_cut_and_order_of_shards_give_the_same_curves(model, shards, whole):
    assert values(combine(SHAPE, measured(model, SHAPE, batch_size=1))) == pytest.approx(values(whole), abs=1e-5)
    pieces = []
    for spec in plan(SHAPE):
        stops = (4, spec.stop) if spec.stage is StageName.LANDSCAPE and spec.stop > 4 else (spec.stop,)
        for start, stop in zip((0, *stops), stops, strict=False):
            piece = replace(spec, start=start, stop=stop)
            pieces.append(measure(model, load_dataset("digits"), SHAPE, piece))
    assert len(pieces) > len(shards)
    assert combine(SHAPE, random.Random(0).sample(pieces, len(pieces))).curves == whole.curves


def test_weights_are_restored_bit_for_bit(model, shards):
    assert shards
    before = copy.deepcopy(model.state_dict())
    far = next(spec for spec in plan(SHAPE) if spec.stage is StageName.LANDSCAPE)
    measure(model, load_dataset("digits"), SHAPE, far)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_curve_is_not_made_from_shards_that_are_missing_or_elsewhere(shards):
    of_landscape = [s for s in shards if s.spec.stage is StageName.LANDSCAPE]
    with pytest.raises(InvalidResult, match=r"landscape on test, weight sample \d+ has 0 examples, expected 9"):
        combine(SHAPE, [s for s in shards if s is not of_landscape[0]])
    beyond = replace(of_landscape[0], spec=replace(of_landscape[0].spec, weight_sample=8))
    with pytest.raises(InvalidResult, match="weight sample that is not one of range\\(0, 8\\)"):
        combine(SHAPE, [beyond])


def test_a_result_with_curves_survives_json_and_one_of_the_first_version_is_read(whole):
    assert evaluation_from_json(evaluation_to_json(whole)) == whole
    first = evaluation_to_json(replace(whole, schema_version=1, curves=())).replace(',"curves":[]', "")
    assert "curves" not in first
    assert evaluation_from_json(first) == replace(whole, schema_version=1, curves=())


@pytest.mark.parametrize("positions", [(), (0.5, 0.1), (0.1, 0.1)])
def test_positions_are_some_and_ascend(positions):
    with pytest.raises(InvalidRequest, match="in ascending order"):
        LandscapeSettings(positions, Examples(test=4, train=4))


def test_a_landscape_needs_the_robust_loss_of_its_examples():
    with pytest.raises(InvalidRequest, match="landscape on test needs the robust loss of the same examples"):
        replace(SMOKE, landscape=LandscapeSettings((0.5,), Examples(test=13, train=0)))


@pytest.mark.parametrize(("shape", "ranked"), [(DIGITS_SHAPE, DIGITS_DEMO), (CIFAR10_SHAPE, CIFAR10_LINF)])
def test_a_companion_attacks_as_its_protocol_does_and_stands_at_its_radius(shape, ranked):
    same = ("dataset", "threat_model", "seed", "robust_loss", "flatness")
    assert [getattr(shape, field) for field in same] == [getattr(ranked, field) for field in same]
    positions = shape.landscape.positions
    assert positions == tuple(-position for position in reversed(positions))
    assert {0.1, 0.25, 0.5, 0.75, 1.0} < set(positions)
    assert ranked.flatness.neighborhood.xi in positions
    assert not shape.rankable


def test_protocols_without_a_landscape_have_the_canonical_json_that_they_had_before_there_was_one():
    digests = {protocol.name: protocol.digest[:12] for (protocol,) in PROTOCOLS.values() if protocol.landscape is None}
    assert digests == {
        "digits-linf": "5825ac10ca8a", "digits-demo": "7956d051ca23", "digits-curve": "7b05443a5471",
        "digits-stopped": "e24983313f07", "cifar10-linf": "8e5e4864ae52", "cifar10-l2": "efc82c35079d",
        "cifar100-linf": "f8dbeca2d8da", "svhn-linf": "99138dae917a", "stutz2021-cifar10": "ae4bdae6800b",
        "stutz2021-curve": "ff932d17bbc3", "stutz2021-stopped": "688d9d74e8a7", "smoke": "ccddca3436a6",
    }  # fmt: skip  # as a table
    assert '"landscape"' not in to_json(SMOKE)
