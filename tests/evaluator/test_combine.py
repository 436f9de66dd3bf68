"""A report is believed only when it has exactly the values its specification asks for."""

from dataclasses import replace

import numpy as np
import pytest

from evaluator.combine import check, combine, robust_losses
from evaluator.exceptions import InvalidResult
from evaluator.metrics import StageName
from evaluator.protocol import SMOKE, Selection
from evaluator.results import PassCounts, ShardResult, ShardSpec
from evaluator.types import Split


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
        (report(StageName.AUTOATTACK, {"broken_by": ["robust", "magic"]}), r"outcomes \['magic'\]"),
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
