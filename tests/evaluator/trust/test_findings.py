"""A check says one thing about one number, and its thresholds stand between the honest and the cheaters."""

from math import inf, isfinite

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.trust.findings import CHECKS, LARGEST, Verdict
from tests.evaluator.trust.table import row
from tests.test_house import ROOT

EVERY_CHECK = pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)


@EVERY_CHECK
def test_honest_networks_pass_and_cheaters_do_not(check) -> None:
    assert {check.judge(seen).verdict for seen in check.honest} == {Verdict.PASS}
    assert check.cheaters
    assert Verdict.PASS not in {check.judge(seen).verdict for seen in check.cheaters}


@EVERY_CHECK
@settings(max_examples=50)
@given(seen=st.floats(-LARGEST, LARGEST))
def test_a_verdict_is_what_the_thresholds_say(check, seen: float) -> None:
    finding = check.judge(seen)
    expected, tolerated = (low <= seen <= high for low, high in (check.expected, check.tolerated))
    assert finding.verdict is (Verdict.FAIL if not tolerated else Verdict.PASS if expected else Verdict.WARN)
    assert isfinite(finding.threshold)
    assert finding.threshold in (check.expected if tolerated else check.tolerated)
    assert format(seen, check.form) in finding.sentence
    assert (check.reason in finding.sentence) == (finding.verdict is not Verdict.PASS)


@EVERY_CHECK
def test_what_is_expected_is_tolerated(check) -> None:
    assert check.tolerated[0] <= check.expected[0] <= check.expected[1] <= check.tolerated[1]
    assert check.expected != (-inf, inf)


@EVERY_CHECK
def test_the_documents_table_says_what_is_declared(check) -> None:
    lines = (ROOT / "docs/trust.md").read_text().splitlines()
    assert any(line.startswith(row(check, "").removesuffix(" |")) for line in lines)
