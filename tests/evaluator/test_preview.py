"""A preview: cheap, unbiased, with an interval that holds what it promises, the same however it is cut, and no more."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evaluator.checkpoints import load_for_measuring, open_checkpoint
from evaluator.combine import combine
from evaluator.datasets import load_dataset
from evaluator.evaluation import evaluate
from evaluator.exceptions import InvalidRequest, InvalidResult
from evaluator.intervals import wilson
from evaluator.metrics import METRICS, StageName
from evaluator.plan import Cost, cut, plan
from evaluator.preview import (
    CHEAPLY_BROKEN_BY,
    Preview,
    estimate,
    plan_preview,
    planned_passes,
    preview_of,
    require_preview,
    sample,
    sampled,
)
from evaluator.protocol import AutoAttackSettings, Examples
from evaluator.report_checks import check_values, least_passes
from evaluator.results import PassCounts, ShardResult, ShardSpec, evaluation_to_json
from evaluator.shipped import CIFAR10_LINF, DIGITS_CURVE, DIGITS_LINF, PROTOCOLS, SMOKE
from evaluator.stages import measure
from evaluator.types import Split
from fixtures.make_tiny import TINY
from tests.evaluator.models import small_cnn
from tests.evaluator.reports import report

PREVIEWED = [versions[-1] for versions in PROTOCOLS.values() if versions[-1].autoattack_examples.test]


@pytest.mark.parametrize("protocol", PREVIEWED, ids=lambda protocol: protocol.label)
def test_as_many_examples_are_drawn_as_a_tenth_of_the_passes_allow(protocol):
    drawn = sample(protocol)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == sampled(protocol) >= 4
    assert set(drawn) <= set(range(protocol.autoattack_examples.test))


def test_another_seed_draws_another_sample_and_each_example_as_often():
    counts = np.zeros(1000)
    for seed in range(200):
        counts[sample(replace(CIFAR10_LINF, seed=seed))] += 1
    expected = 200 * sampled(CIFAR10_LINF) / 1000
    assert counts.mean() == expected
    assert counts.std() == pytest.approx(np.sqrt(expected * (1 - expected / 200)), rel=0.1)


@pytest.mark.parametrize("protocol", [CIFAR10_LINF, DIGITS_LINF], ids=lambda protocol: protocol.label)
@pytest.mark.parametrize("cheap_error", [0.05, 0.45, 0.9])
@pytest.mark.parametrize("missed", [0.0, 0.01, 0.1, 0.5])
def test_the_interval_covers_the_true_error_and_the_standard_number_as_often_as_it_says(protocol, cheap_error, missed):
    n, asked, times = protocol.autoattack_examples.test, sampled(protocol), 3000
    generator = np.random.default_rng([n, asked, int(100 * cheap_error), int(100 * missed)])
    true = 1 - (1 - cheap_error) * (1 - missed)
    withstood = generator.binomial(n, 1 - cheap_error, times)
    fell = generator.binomial(withstood, missed)  # which the standard number counts
    of_sample = generator.hypergeometric(withstood, n - withstood, asked)
    seen = generator.hypergeometric(fell, withstood - fell, of_sample)
    found = [estimate(n, *counts) for counts in zip(withstood, of_sample, seen, strict=True)]
    standard = (n - withstood + fell) / n
    assert np.mean([one.low <= true <= one.high for one in found]) > 0.94
    assert np.mean([one.low <= number <= one.high for one, number in zip(found, standard, strict=True)]) > 0.95
    deviation = np.array([one.value for one in found]) - standard
    assert abs(deviation.mean()) < 4 * deviation.std() / np.sqrt(times) + 1e-12  # unbiased for what takes its place


@given(st.data())
def test_an_estimate_lies_in_its_interval_and_never_below_the_cheap_attacks(data):
    n = data.draw(st.integers(1, 500))
    withstood = data.draw(st.integers(0, n))
    asked = data.draw(st.integers(0, withstood))
    fell = data.draw(st.integers(0, asked))
    found = estimate(n, withstood, asked, fell)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value <= found.high + 1e-12 <= 1 + 2e-12
    assert found.value >= 1 - withstood / n - 1e-12


def test_nothing_observed_is_not_taken_for_nothing_there():
    none_fell, all_asked = estimate(1000, 500, 50, 0), wilson(500, 1000)
    assert none_fell.value == all_asked.value
    assert none_fell.low == pytest.approx(all_asked.low)
    assert none_fell.high > all_asked.high + 0.01
    assert estimate(1000, 500, 0, 0).high == 1.0  # of nobody asked nothing is known


def test_a_preview_says_what_its_report_says():
    found = preview_of(report(DIGITS_LINF, *plan_preview(DIGITS_LINF)))
    assert (found.n, found.sampled) == (1000, sampled(DIGITS_LINF))
    assert found.value == pytest.approx(0.4 + 0.6 * 2 / 3, abs=0.1)  # 2 of 5 fall cheaply, and 2 of the other 3
    assert found.low < 0.8 < found.high


def test_a_preview_is_planned_only_where_asked_for_right_after_what_it_needs():
    assert StageName.PREVIEW not in {spec.stage for spec in plan(DIGITS_LINF)}
    stages = [spec.stage for spec in plan(DIGITS_LINF, preview=True)]
    assert stages[:4] == [StageName.CLEAN, StageName.CLEAN, StageName.PREVIEW, StageName.TRUST]
    assert plan(DIGITS_CURVE, preview=True) == plan(DIGITS_CURVE)
    with pytest.raises(InvalidRequest, match="digits-curve v1 measures no robust error on test"):
        require_preview(DIGITS_CURVE)
    require_preview(DIGITS_LINF)


def test_a_preview_is_measured_in_one_piece_whatever_it_costs():
    (whole,) = plan_preview(DIGITS_LINF)
    assert cut(DIGITS_LINF, whole, last=Cost(200, 1e6), target_seconds=0.1) == (whole, None)


def test_it_is_no_part_of_a_protocol_and_no_metric():
    assert all(protocol.count(StageName.PREVIEW, split) == 0 for protocol in PREVIEWED for split in Split)
    assert all(metric.stage is not StageName.PREVIEW for metric in METRICS.values())


def test_what_is_measured_does_not_depend_on_batches_and_holds_to_the_laws():
    model = load_for_measuring(open_checkpoint(TINY.with_name("digits-at.safetensors")))
    data = load_dataset("digits")
    protocol = replace(SMOKE, autoattack_examples=Examples(test=8, train=0))
    results = [measure(model, data, protocol, *plan_preview(protocol), batch_size=size) for size in (None, 4)]
    assert results[0].values == results[1].values
    for result in results:
        check_values(protocol, result)
    assert set(results[0].values["broken_by"]) <= set(CHEAPLY_BROKEN_BY)
    assert "robust" in results[0].values["broken_by"]


def test_evaluate_gives_the_preview_first_and_the_same_numbers_as_without_one():
    protocol = replace(SMOKE, robust_loss_examples=Examples(4, 0), flatness_examples=Examples(0, 0))
    told: list[object] = []
    with_preview = evaluate(
        small_cnn(), protocol, progress=lambda spec, *_: told.append(spec.stage), on_preview=told.append
    )
    kinds = [kind if isinstance(kind, StageName) else type(kind) for kind in told if kind is not StageName.CLEAN]
    assert kinds[:2] == [StageName.PREVIEW, Preview]
    assert told.index(StageName.PREVIEW) == told.count(StageName.CLEAN)
    without = evaluate(small_cnn(), protocol)
    assert with_preview.measurements == without.measurements
    assert [(stage.stage, stage.passes) for stage in with_preview.stages] == [
        (stage.stage, stage.passes) for stage in without.stages
    ]
    assert "preview" not in evaluation_to_json(with_preview)


def test_no_preview_among_the_reports_changes_a_result():
    reports = [report(SMOKE, spec) for spec in plan(SMOKE, preview=True)]
    assert StageName.PREVIEW in {one.spec.stage for one in reports}
    without = [one for one in reports if one.spec.stage is not StageName.PREVIEW]
    assert combine(SMOKE, reports) == combine(SMOKE, without)


def test_a_preview_takes_a_tenth_of_the_passes_of_its_run():
    """On a network that withstands everything, of which each attack takes all the passes that it can."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        model[1].weight.copy_(torch.linspace(-0.01, 0.01, 640).reshape(10, 64).sin())
        model[1].bias.copy_(50.0 * torch.eye(10)[0])
    digits = load_dataset("digits")
    zeros = replace(digits, labels={split: torch.zeros_like(labels) for split, labels in digits.labels.items()})
    few = Examples(test=80, train=32)
    protocol = replace(
        DIGITS_LINF, clean_examples=few, robust_loss_examples=few, flatness_examples=few, autoattack_examples=few,
        autoattack=AutoAttackSettings(chunk_size=80),
    )  # fmt: skip
    preview = measure(model, zeros, protocol, *plan_preview(protocol))
    assert set(preview.values["broken_by"]) == {"robust"}
    taken = preview.passes.forward + preview.passes.backward
    planned = planned_passes(protocol)
    assert 0.05 < taken / planned < 0.11
    attacked = measure(model, zeros, protocol, ShardSpec(StageName.AUTOATTACK, Split.TEST, 0, 4)).passes
    by_model = planned - planned_passes(replace(protocol, autoattack_examples=Examples(test=79, train=32)))
    assert (attacked.forward + attacked.backward) / 4 > 0.9 * by_model  # nor is the run's own cost overstated


def forged(**columns: dict[int, object]) -> ShardResult:
    """Return a report of a preview with other outcomes of some examples."""
    honest = report(DIGITS_LINF, *plan_preview(DIGITS_LINF))
    values = {name: [columns.get(name, {}).get(i, one) for i, one in enumerate(honest.values[name])]
              for name in honest.values}  # fmt: skip
    return replace(honest, values=values)


def test_a_report_that_contradicts_itself_or_its_sample_is_refused():
    check_values(DIGITS_LINF, forged())
    drawn = sample(DIGITS_LINF)
    outside = next(i for i in range(1000) if i not in drawn)
    with pytest.raises(InvalidResult, match=f"None as AutoAttack's outcome of example {drawn[0]}, which is one of the"):
        check_values(DIGITS_LINF, forged(autoattack={drawn[0]: None}))
    with pytest.raises(InvalidResult, match=f"'robust' as AutoAttack's outcome of example {outside}, which is none of"):
        check_values(DIGITS_LINF, forged(autoattack={outside: "robust"}))
    with pytest.raises(InvalidResult, match="but it is wrong without an attack or it is not"):
        check_values(DIGITS_LINF, forged(broken_by={drawn[0]: "clean"}, autoattack={drawn[0]: "robust"}))
    with pytest.raises(InvalidResult, match="take at least"):
        check_values(DIGITS_LINF, replace(forged(), passes=PassCounts(10_000, 10_000)))
    with pytest.raises(InvalidResult, match="which is never cut"):
        check_values(DIGITS_LINF, report(DIGITS_LINF, ShardSpec(StageName.PREVIEW, Split.TEST, 0, 1000 - 4)))


def test_what_the_outcomes_of_a_preview_take_at_least():
    nothing = forged(broken_by=dict.fromkeys(range(1000), "pgd"))
    nothing = replace(nothing, values=nothing.values | {"autoattack": [None] * 1000})
    assert least_passes(DIGITS_LINF, nothing) == PassCounts(1000 * 21, 1000 * 20)
    one = replace(nothing, values={"broken_by": ["robust"] + ["pgd"] * 999, "autoattack": ["robust"] + [None] * 999})
    assert least_passes(DIGITS_LINF, one) == PassCounts(1000 * 21 + 12 * 101, 1000 * 20 + 12 * 100)
