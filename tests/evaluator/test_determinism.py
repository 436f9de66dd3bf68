"""The numbers do not know batch sizes, shard splits, orders or workers."""

import random
from dataclasses import replace

import pytest
import torch

from evaluator import evaluation
from evaluator.combine import combine
from evaluator.evaluation import evaluate
from evaluator.metrics import METRICS, StageName
from evaluator.observed import full_float32
from evaluator.plan import Cost
from evaluator.results import evaluation_from_json, evaluation_to_json, shard_from_json, shard_to_json
from evaluator.shipped import SMOKE, find_protocol
from tests.evaluator.models import measured, small_cnn, without_autoattack


@pytest.fixture(scope="module")
def model():
    return small_cnn()


@pytest.fixture(scope="module")
def shards(model):
    return measured(model, SMOKE)


@pytest.fixture(scope="module")
def whole(shards):
    return combine(SMOKE, shards)


def test_any_batch_size_gives_the_same_numbers(model, whole):
    for batch_size in (1, 5, 1000):
        numbers = without_autoattack(model, SMOKE, batch_size=batch_size)
        for measurement in numbers.measurements:
            if not measurement.metric.startswith("robust_error"):  # AutoAttack's chunks are the protocol's
                expected = whole.measurement(measurement.column).value
                assert measurement.value == pytest.approx(expected, abs=1e-5), measurement.column


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_any_cut_gives_the_same_numbers_to_the_last_bit(model, whole, monkeypatch, seconds):
    monkeypatch.setattr(evaluation, "Cost", lambda examples, _: Cost(examples, seconds))  # huge pieces, tiny pieces
    assert evaluate(model, SMOKE).measurements == whole.measurements


def test_any_order_of_shards_gives_the_same_result(shards, whole):
    shuffled = random.Random(0).sample(shards, len(shards))
    assert combine(SMOKE, shuffled).measurements == whole.measurements


def test_a_shard_survives_its_way_through_json_bit_for_bit(shards):
    for shard in shards:
        assert shard_from_json(shard_to_json(shard)) == shard


def test_a_result_survives_its_way_through_json(whole):
    assert evaluation_from_json(evaluation_to_json(whole)) == whole


def test_every_declared_metric_that_is_asked_for_is_measured_once_for_each_of_its_columns(whole):
    declared = [c for metric in METRICS.values() for c in metric.columns() if metric.stage is not StageName.WORST_CASE]
    assert [m.column for m in whole.measurements] == declared == list(SMOKE.columns())


def test_intervals_contain_their_value_and_counts_are_the_protocols(whole):
    for m in whole.measurements:
        assert m.low <= m.value <= m.high, m.column
    assert whole.measurement("robust_error_test").n == SMOKE.autoattack_examples.test
    assert whole.protocol_digest == SMOKE.digest
    assert not whole.rankable


def test_a_robust_number_is_never_better_than_its_clean_one(shards, whole):
    robust = next(s for s in shards if s.spec.stage is StageName.ROBUST_LOSS)
    clean = next(s for s in shards if s.spec.stage is StageName.CLEAN)
    assert whole.measurement("robust_loss_test").value >= sum(clean.values["loss"][: len(robust.spec)]) / len(
        robust.spec
    )
    attacked = next(s for s in shards if s.spec.stage is StageName.AUTOATTACK)
    wrong = [p != y for p, y in zip(clean.values["prediction"], clean.values["label"], strict=True)]
    assert [o == "clean" for o in attacked.values["broken_by"]] == wrong[: len(attacked.spec)]


def test_another_seed_gives_other_draws(model, whole):
    other = without_autoattack(model, replace(SMOKE, seed=1))
    assert other.measurement("flatness_test").value != whole.measurement("flatness_test").value


def test_evaluation_leaves_no_trace(model):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    evaluate(model, SMOKE, limit=2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model._forward_hooks


def test_a_limit_is_another_protocol_and_never_ranks(model):
    result = evaluate(model, "digits-linf", limit=2)
    assert (result.limit, result.rankable) == (2, False)
    assert result.protocol_digest != find_protocol("digits-linf").digest
    assert {m.n for m in result.measurements} == {2, 4}  # the gaps join both splits


def test_reduced_precision_is_off_while_measuring_and_the_process_keeps_its_choice_afterwards():
    torch.set_float32_matmul_precision("high")
    try:
        with full_float32():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
