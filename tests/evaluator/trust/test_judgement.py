"""What the outcomes of all stages say of a network: forged ones, and those of networks that cheat."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from evaluator.cli import print_result
from evaluator.combine import check, combine
from evaluator.exceptions import InvalidResult
from evaluator.metrics import StageName
from evaluator.plan import plan
from evaluator.protocol import EvaluationProtocol, Examples
from evaluator.results import EvaluationResult, PassCounts, ShardResult, ShardSpec
from evaluator.shipped import SMOKE
from evaluator.trust.findings import CHECKS, LARGEST, Source, Verdict
from evaluator.trust.judgement import CLAIM, judge_claim
from evaluator.types import Split
from tests.evaluator.reports import probes
from tests.evaluator.trust.cheaters import BY_OUTCOMES, Cheater
from tests.evaluator.trust.trials import TRIAL, trial

N = 100
HONEST = {
    "clean": {"loss": [0.1] * N, "prediction": [0] * 90 + [1] * 10, "label": [0] * N},
    "train": {"loss": [0.1] * N, "prediction": [0] * 92 + [1] * 8, "label": [0] * N},
    "pgd": {"loss": [[1.0, 1.1]] * N, "wrong_class_confidence": [[0.5, 0.5]] * N, "correct": [[1, 1]] * N},
    "autoattack": {"broken_by": ["robust"] * 50 + ["apgd-ce"] * 40 + ["clean"] * 10},
    "trust": probes(clean_loss=0.1),
}


def protocol() -> EvaluationProtocol:
    n = Examples(test=N, train=0)
    return replace(
        SMOKE,
        rankable=True,
        clean_examples=Examples(test=N, train=N),
        robust_loss_examples=n,
        flatness_examples=Examples(0, 0),
        autoattack_examples=n,
    )


def combined(**changed) -> EvaluationResult:
    """Combine forged reports, honest but for what is changed."""
    values = {name: HONEST[name] | changed.get(name, {}) for name in HONEST}
    places = {
        "clean": (StageName.CLEAN, Split.TEST), "train": (StageName.CLEAN, Split.TRAIN),
        "pgd": (StageName.ROBUST_LOSS, Split.TEST), "autoattack": (StageName.AUTOATTACK, Split.TEST),
        "trust": (StageName.TRUST, Split.TEST),
    }  # fmt: skip
    asked = protocol()
    reports = [
        ShardResult(ShardSpec(*places[name], 0, asked.count(*places[name])), values[name], PassCounts(), 1.0, "cpu", {})
        for name in places
        if name not in changed.get("without", ())
    ]
    return combine(asked, reports)


def verdicts(result: EvaluationResult) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in result.findings}


def test_honest_outcomes_pass_every_check_and_rank() -> None:
    result = combined()
    assert verdicts(result) == {
        check.key: Verdict.PASS for check in CHECKS.values() if check.source is not Source.CLAIM
    }
    assert result.rankable


@pytest.mark.parametrize(
    ("changed", "check", "verdict"),
    [
        ({"pgd": {"correct": [[1, 1]] * 80 + [[1, 0]] * 20}}, "restarts", Verdict.WARN),
        ({"pgd": {"correct": [[1, 1]] * 60 + [[1, 0]] * 40}}, "restarts", Verdict.FAIL),
        ({"autoattack": {"broken_by": ["robust"] * 83 + ["square"] * 7 + ["clean"] * 10}}, "square", Verdict.WARN),
        ({"autoattack": {"broken_by": ["robust"] * 60 + ["square"] * 30 + ["clean"] * 10}}, "square", Verdict.FAIL),
        ({"pgd": {"correct": [[0, 0]] * 10 + [[1, 1]] * 90}}, "autoattack_behind_pgd", Verdict.WARN),
        ({"pgd": {"correct": [[0, 0]] * 50 + [[1, 1]] * 50}}, "autoattack_behind_pgd", Verdict.FAIL),
        ({"train": {"prediction": [0] * 75 + [1] * 25}}, "memorisation", Verdict.WARN),
        ({"train": {"prediction": [0] * 20 + [1] * 80}}, "memorisation", Verdict.FAIL),
        ({"trust": {"clean_loss": [0.12]}}, "stages_agree", Verdict.WARN),
        ({"autoattack": {"broken_by": ["robust"] * 80 + ["clean"] * 20}}, "stages_agree", Verdict.FAIL),
        ({"trust": {"randomness": [0.1]}}, "randomness", Verdict.FAIL),
    ],
)
def test_a_suspicious_outcome_is_found_by_its_check_alone(changed, check: str, verdict: Verdict) -> None:
    result = combined(**changed)
    found = verdicts(result)
    assert found.pop(check) is verdict
    assert set(found.values()) == {Verdict.PASS}
    assert result.rankable == (verdict is not Verdict.FAIL)


def test_a_run_that_was_planned_without_probes_is_judged_by_its_outcomes() -> None:
    found = verdicts(combined(without=["trust"]))
    assert found == {check.key: Verdict.PASS for check in CHECKS.values() if check.source is Source.OUTCOMES}


def test_a_protocol_that_never_ranks_is_not_probed() -> None:
    assert StageName.TRUST not in {spec.stage for spec in plan(SMOKE)}
    assert [spec for spec in plan(TRIAL) if spec.stage is StageName.TRUST] == [
        ShardSpec(StageName.TRUST, Split.TEST, 0, 24)
    ]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"randomness": []}, "0 values of randomness, expected 1"),
        ({"randomness": [0.0, 0.0]}, "2 values of randomness"),
        ({"randomness": [float("nan")]}, "nan as randomness, expected a number"),
        ({"randomness": [10 * LARGEST]}, "as randomness, expected a number of at most 1e"),
        ({"randomness": ["0"]}, "'0' as randomness"),
        ({"randomness": [True]}, "True as randomness"),
    ],
)
def test_a_forged_report_on_probes_is_refused(values, sentence: str) -> None:
    with pytest.raises(InvalidResult, match=sentence):
        combined(trust=values)


def test_probes_are_reported_on_all_examples_at_once() -> None:
    part = ShardResult(ShardSpec(StageName.TRUST, Split.TEST, 0, 8), HONEST["trust"], PassCounts(), 1.0, "cpu", {})
    with pytest.raises(InvalidResult, match="reports on 8 examples, expected all 64 at once"):
        check(protocol(), part)


@pytest.mark.parametrize(
    ("claimed", "verdict"),
    [("0.1", Verdict.PASS), ("0.02", Verdict.WARN), ("0.9", Verdict.FAIL), ("excellent", Verdict.FAIL),
     ("nan", Verdict.FAIL), ("10", Verdict.FAIL)],
)  # fmt: skip
def test_a_claimed_clean_error_is_compared_with_the_measured_interval(claimed: str, verdict: Verdict) -> None:
    result = judge_claim(combined(), {CLAIM: claimed})
    assert verdicts(result)["claim"] is verdict
    assert result.rankable == (verdict is not Verdict.FAIL)


def test_who_claims_nothing_is_not_judged_by_a_claim() -> None:
    assert judge_claim(combined(), {"made by": "somebody"}) == combined()


@pytest.mark.parametrize("name", BY_OUTCOMES)
def test_a_cheater_is_caught_by_its_outcomes(name: str) -> None:
    found = verdicts(trial(BY_OUTCOMES[name]))
    assert Verdict.PASS not in {found[check] for check in BY_OUTCOMES[name].caught_by}, found


def test_an_honest_network_passes_all_checks_of_a_real_evaluation() -> None:
    found = verdicts(trial(Cheater(lambda network: network, ("square",))))
    assert found == dict.fromkeys(CHECKS, Verdict.PASS)


def test_every_check_by_outcomes_has_a_cheater() -> None:
    by_outcomes = {check.key for check in CHECKS.values() if check.source is not Source.PROBE}
    assert by_outcomes == {name for cheater in BY_OUTCOMES.values() for name in cheater.caught_by}


def test_a_result_is_printed_with_what_does_not_pass() -> None:
    output = StringIO()
    print_result(combined(trust={"randomness": [0.5], "tiny_gradients": [0.9]}), Console(file=output, width=300))
    assert "trust check fails: the same images twice gave logits that differ by 0.5" in output.getvalue()
    assert "trust check warns: the gradient of the loss is below 1e-12" in output.getvalue()
    assert "18 of 20 trust checks pass" in output.getvalue()
