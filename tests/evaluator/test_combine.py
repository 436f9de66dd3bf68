"""A report is believed only when it has exactly the values asked for; what was not asked for has no number."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator import intervals
from evaluator.combine import check, combine, robust_losses
from evaluator.exceptions import InvalidResult
from evaluator.metrics import StageName
from evaluator.plan import plan
from evaluator.protocol import Examples, Selection
from evaluator.results import PassCounts, ShardResult, ShardSpec, evaluation_from_json, evaluation_to_json
from evaluator.shipped import SMOKE
from evaluator.types import Split
from tests.evaluator.reports import report as plausible_report


def report(stage, values, *, stop=2, sample=None):
    return ShardResult(ShardSpec(stage, Split.TEST, 0, stop, sample), values, PassCounts(), 1.0, "cpu", {})


GOOD = report(StageName.CLEAN, {"loss": [0.1, 0.2], "prediction": [1, 2], "label": [1, 3]})
RESTARTS = {"loss": [[1.0, 2.0]] * 2, "wrong_class_confidence": [[0.1, 0.2]] * 2, "correct": [[1, 0]] * 2}


def test_a_good_report_passes():
    check(SMOKE, GOOD)
    check(SMOKE, report(StageName.ROBUST_LOSS, RESTARTS))


@pytest.mark.parametrize(
    ("forged", "sentence"),
    [
        (replace(GOOD, values={"loss": [0.1, 0.2]}), r"reports \['loss'\], expected"),
        (replace(GOOD, values=GOOD.values | {"loss": [0.1]}), "1 values of loss, expected 2"),
        (replace(GOOD, values=GOOD.values | {"loss": [0.1, float("nan")]}), "negative or not finite"),
        (replace(GOOD, values=GOOD.values | {"loss": [0.1, -1.0]}), "negative or not finite"),
        (replace(GOOD, values=GOOD.values | {"loss": [0.1, "x"]}), "no table of numbers"),
        (report(StageName.ROBUST_LOSS, RESTARTS | {"loss": [[1.0]] * 2}), r"shape \(2, 1\), expected \(2, 2\)"),
        (report(StageName.FLATNESS, RESTARTS, sample=2), "weight sample that is not one of"),
        (report(StageName.AUTOATTACK, {"broken_by": ["robust", "magic"]}), "the outcome 'magic'"),
        (report(StageName.AUTOATTACK, {"broken_by": [["robust"], "robust"]}), "the outcome"),
        (report(StageName.AUTOATTACK, {"broken_by": ["robust"] * 5}, stop=5), "goes beyond the 4 examples that smoke"),
    ],
)
def test_a_forged_report_is_refused_with_its_own_sentence(forged, sentence):
    with pytest.raises(InvalidResult, match=sentence):
        check(SMOKE, forged)


def test_missing_and_doubled_shards_are_refused():
    with pytest.raises(InvalidResult, match="clean on test has 2 examples, expected 24"):
        combine(SMOKE, [GOOD])
    with pytest.raises(InvalidResult, match="missing or doubled"):
        combine(SMOKE, [GOOD, GOOD])


def test_the_selection_rule_decides_which_restart_counts():
    loss, confidence = np.array([[1.0, 3.0]]), np.array([[0.9, 0.2]])
    assert robust_losses(loss, confidence, Selection.LOSS) == [3.0]
    assert robust_losses(loss, confidence, Selection.WRONG_CLASS_CONFIDENCE) == [1.0]


@st.composite
def parts(draw):
    """Protocols that ask for any part of what smoke measures, at least for something."""
    counts = st.builds(Examples, test=st.integers(0, 3), train=st.integers(0, 3))
    robust = draw(counts)
    return replace(
        SMOKE,
        clean_examples=draw(counts.filter(lambda n: n.test + n.train > 0)),
        robust_loss_examples=robust,
        flatness_examples=Examples(min(robust.test, draw(counts).test), min(robust.train, draw(counts).train)),
        autoattack_examples=draw(counts),
    )


@settings(max_examples=40)
@given(parts())
def test_a_part_of_the_stages_gives_exactly_its_numbers(part):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "RESAMPLES", 20)
        result = combine(part, [plausible_report(part, spec) for spec in plan(part)])
        whole = combine(SMOKE, [plausible_report(SMOKE, spec) for spec in plan(SMOKE)])
    assert tuple(m.column for m in result.measurements) == part.columns()
    assert set(part.columns()) <= {m.column for m in whole.measurements} == set(SMOKE.columns())
    measured = {(s.stage, s.split) for s in result.stages}
    assert measured == {(stage, split) for stage in StageName for split in Split if part.count(stage, split)}
    assert all(np.isfinite([m.value, m.low, m.high]).all() and m.n > 0 for m in result.measurements)
    assert evaluation_from_json(evaluation_to_json(result)) == result


def test_a_report_on_a_stage_that_was_not_asked_for_is_refused():
    part = replace(SMOKE, autoattack_examples=Examples(test=0, train=4))
    with pytest.raises(InvalidResult, match="goes beyond the 0 examples"):
        check(part, report(StageName.AUTOATTACK, {"broken_by": ["robust"]}, stop=1))
