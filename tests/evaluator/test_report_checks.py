"""What no network can have reported is refused; what one has reported never is."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from evaluator.checkpoints import load_for_measuring, open_checkpoint
from evaluator.combine import check
from evaluator.datasets import load_dataset
from evaluator.exceptions import InvalidResult
from evaluator.metrics import StageName
from evaluator.report_checks import check_labels, check_starts, check_values, least_passes
from evaluator.results import PassCounts, ShardResult, ShardSpec
from evaluator.shipped import SMOKE
from evaluator.stages import measure
from evaluator.types import Split
from fixtures.make_tiny import TINY
from tests.evaluator.reports import report

CLEAN = report(SMOKE, ShardSpec(StageName.CLEAN, Split.TEST, 0, 8))
ATTACKED = report(SMOKE, ShardSpec(StageName.ROBUST_LOSS, Split.TEST, 0, 8))
AUTOATTACK = report(SMOKE, ShardSpec(StageName.AUTOATTACK, Split.TEST, 0, 4))


def changed(result: ShardResult, **first) -> ShardResult:
    """Return a report with other values of its first example, in its first restart if it has such."""
    values = {name: list(column) for name, column in result.values.items()}
    for name, value in first.items():
        column = values[name]
        column[0] = [value, *column[0][1:]] if isinstance(column[0], list) else value
    return replace(result, values=values)


def honest(logits: torch.Tensor, labels: torch.Tensor, stage: StageName) -> ShardResult:
    """Return what `evaluator.stages` reports where a network answers with `logits`."""
    spec = ShardSpec(stage, Split.TEST, 0, len(labels), 0 if stage is StageName.FLATNESS else None)
    loss, predicted = F.cross_entropy(logits, labels, reduction="none"), logits.argmax(1)
    values = {"loss": loss.tolist(), "prediction": predicted.tolist(), "label": labels.tolist()}
    if stage is StageName.FLATNESS:
        wrong = logits.softmax(1).scatter(1, labels[:, None], 0.0).amax(1)
        columns = {"loss": loss, "wrong_class_confidence": wrong, "correct": predicted == labels}
        values = {name: column[:, None].tolist() for name, column in columns.items()}
    return replace(report(SMOKE, spec), values=values)


@settings(max_examples=200)
@given(
    logits=arrays.arrays(np.float32, (4, 10), elements=st.floats(-1, 1, width=32)),
    scale=st.sampled_from([0.0, 1e-6, 0.01, 1.0, 30.0, 1e4, 1e9]),
    stage=st.sampled_from([StageName.CLEAN, StageName.FLATNESS]),
)
def test_whatever_a_network_answers_is_believed_ties_and_huge_logits_too(logits, scale, stage):
    result = honest(torch.from_numpy(logits) * scale, torch.tensor([0, 3, 9, 9]), stage)
    check(SMOKE, result)
    check_values(SMOKE, result)


@pytest.mark.parametrize(
    ("result", "forged", "sentence"),
    [
        (CLEAN, {"prediction": 10}, "a prediction is one of the 10 classes"),
        (CLEAN, {"label": 2.5}, "a label is one of the 10 classes"),
        (CLEAN, {"loss": 0.69}, "a wrong prediction has a loss of ln 2 or more"),
        (changed(CLEAN, label=0), {"loss": 2.31}, "a right one has a loss of ln 10 or less"),
        (ATTACKED, {"correct": 0.5}, "correct is 0 or 1"),
        (ATTACKED, {"loss": 0.3, "wrong_class_confidence": 0.5}, "no more probability than exp"),
        (ATTACKED, {"loss": 2.0, "wrong_class_confidence": 0.09}, "fair share of the rest"),
        (ATTACKED, {"loss": 0.8, "wrong_class_confidence": 0.5, "correct": 1}, "where it is right"),
        (ATTACKED, {"loss": 0.6, "wrong_class_confidence": 0.4, "correct": 0}, "where it is wrong"),
        (ATTACKED, {"loss": 3.0, "wrong_class_confidence": 0.95, "correct": 1}, "where it is right"),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_the_law_they_break(result, forged, sentence):
    check_values(SMOKE, result)
    with pytest.raises(InvalidResult, match=sentence):
        check_values(SMOKE, changed(result, **forged))


@pytest.mark.parametrize("result", [CLEAN, ATTACKED, AUTOATTACK], ids=lambda result: result.spec.stage)
def test_outcomes_that_took_too_few_passes_are_refused(result):
    least = least_passes(SMOKE, result)
    check_values(SMOKE, replace(result, passes=least))
    for short in (replace(least, forward=least.forward - 1), replace(least, forward=0, backward=0)):
        with pytest.raises(InvalidResult, match="take at least"):
            check_values(SMOKE, replace(result, passes=short))


def test_an_example_that_autoattack_leaves_robust_has_cost_a_thousand_gradients():
    robust = replace(AUTOATTACK, values={"broken_by": ["robust"] * 4})
    assert least_passes(SMOKE, robust) == PassCounts(4 * 1011, 4 * 1000)
    check_values(SMOKE, replace(robust, passes=PassCounts(13_928, 7_600)))  # as measured of four robust digits


@pytest.mark.parametrize("stage", [StageName.CLEAN, StageName.ROBUST_LOSS, StageName.FLATNESS])
def test_a_measurement_takes_exactly_the_passes_that_it_takes_at_least(stage):
    spec = ShardSpec(stage, Split.TEST, 0, 8, 0 if stage is StageName.FLATNESS else None)
    result = measure(load_for_measuring(open_checkpoint(TINY)), load_dataset("digits"), SMOKE, spec)
    check_values(SMOKE, result)
    assert result.passes == least_passes(SMOKE, result)


def test_labels_are_those_of_other_runs_on_the_same_data():
    known = dict(enumerate(CLEAN.values["label"]))
    check_labels(CLEAN, known)
    check_labels(CLEAN, {})
    check_labels(CLEAN, {99: 0})
    with pytest.raises(InvalidResult, match="gives example 3 the label 3"):
        check_labels(CLEAN, known | {3: 4})


def test_autoattack_calls_nothing_wrong_that_is_right_beyond_rounding():
    start = replace(AUTOATTACK, values={"broken_by": ["clean"] * 4})
    clean = replace(CLEAN, values=CLEAN.values | {"loss": [math.log(2) - 1e-6] * 8})
    check_starts(start, [clean])
    check_starts(start, [replace(changed(clean, loss=0.5), spec=replace(clean.spec, split=Split.TRAIN))])
    sure = changed(clean, loss=0.5)
    with pytest.raises(InvalidResult, match="example 0 as misclassified without an attack"):
        check_starts(start, [sure])
    check_starts(replace(start, values={"broken_by": ["square"] * 4}), [sure])
