"""What is drawn to be measured again, and what follows from two or three measurements of a piece."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.audits import PIECE_EXAMPLES, Judgement, Measured, Outcome, agree, draw, finding, judge, part_of
from evaluator.metrics import StageName
from evaluator.plan import Cost, cut, plan
from evaluator.results import ShardResult, ShardSpec
from evaluator.shipped import DIGITS_DEMO, SMOKE
from evaluator.trust.findings import Verdict
from evaluator.types import Split
from tests.evaluator.reports import report

CUT = replace(DIGITS_DEMO, autoattack=replace(DIGITS_DEMO.autoattack, chunk_size=20))
PIECE = ShardSpec(StageName.ROBUST_LOSS, Split.TEST, 4, 20)
TRUE = report(DIGITS_DEMO, PIECE)


def shards(size: int) -> list[ShardSpec]:
    """Return a run cut into shards of about `size` examples."""
    found = []
    for spec in plan(CUT):
        rest = spec
        while rest is not None:
            piece, rest = cut(CUT, rest, last=Cost(size, size), target_seconds=size)
            found.append(piece)
    return found


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 30), size=st.integers(4, 200), share=st.floats(0.001, 1))
def test_pieces_lie_in_their_shards_and_one_at_least_is_attacked(seed, size, share):
    specs = shards(size)
    drawn = draw(CUT, specs, share, random.Random(seed))
    assert len({shard for shard, _ in drawn}) == len(drawn)
    assert any(CUT.attack(shard.stage) for shard, _ in drawn)
    for shard, piece in drawn:
        assert shard in specs
        assert shard.start <= piece.start < piece.stop <= shard.stop
        assert replace(piece, start=shard.start, stop=shard.stop) == shard
        if shard.stage is StageName.AUTOATTACK:
            assert piece.start % 20 == 0
            assert len(piece) == 20
        else:
            assert len(piece) == min(PIECE_EXAMPLES, len(shard))


def test_a_share_of_the_shards_is_drawn_and_of_autoattack_no_more():
    specs = shards(20)
    share, times = 0.05, 400
    chunks = [s for s in specs if s.stage is StageName.AUTOATTACK]
    assert len(chunks) == 9
    drawn = [draw(CUT, specs, share, random.Random(seed)) for seed in range(times)]
    stages = [Counter(shard.stage for shard, _ in one) for one in drawn]
    assert max(count[StageName.AUTOATTACK] for count in stages) == 1
    average = sum(map(len, drawn)) / times
    assert share * len(specs) * 0.9 <= average <= share * len(specs) * 1.1
    assert sum(count[StageName.AUTOATTACK] > 0 for count in stages) > times * share  # but it is drawn


def test_all_shards_of_published_numbers_are_drawn_where_all_shall_be():
    specs = shards(40)
    published = [str(shard) for shard in specs if shard.stage is not StageName.TRUST]
    assert sorted(published) == sorted(str(shard) for shard, _ in draw(CUT, specs, 1.0, random.Random(0)))


def test_a_run_without_pgd_has_any_of_its_shards_drawn():
    spec = ShardSpec(StageName.CLEAN, Split.TEST, 0, 8)
    assert draw(SMOKE, [spec], 1e-9, random.Random(0)) == ((spec, spec),)


def test_a_part_of_a_report_is_what_it_says_of_these_examples():
    whole = report(DIGITS_DEMO, replace(PIECE, start=0, stop=40))
    assert part_of(whole, PIECE).values == TRUE.values
    assert part_of(whole, PIECE).spec == PIECE


def other(result: ShardResult, by: float, flags: int = 0, **changes) -> ShardResult:
    """Return a report with other losses, and as many other outcomes."""
    values = dict(result.values)
    values["loss"] = [[loss + by for loss in row] for row in values["loss"]]
    values["correct"] = [
        [one != (i * len(row) + r < flags) for r, one in enumerate(row)] for i, row in enumerate(values["correct"])
    ]
    return replace(result, values=values, **changes)


GPU = {"device": "NVIDIA H200"}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (("a:1", TRUE), ("a:2", TRUE), True),
        (("a:1", TRUE), ("a:2", other(TRUE, 1e-9)), False),
        (("a:1", TRUE), ("b:1", other(TRUE, 1e-3)), True),  # other hosts may have other processors
        (("a:1", TRUE), ("b:1", other(TRUE, -0.3)), False),
        (("a:1", TRUE), ("a:2", other(TRUE, 1e-3, **GPU)), True),
        (("a:1", TRUE), ("a:2", other(TRUE, 1e-3, versions={"torch": "1"})), True),
        (("a:1", other(TRUE, 0, **GPU)), ("a:2", other(TRUE, 1e-3, **GPU)), True),
        (("a:1", TRUE), ("b:1", other(TRUE, 0, flags=1)), True),
        (("a:1", TRUE), ("b:1", other(TRUE, 0, flags=3)), False),
        (("a:1", TRUE), ("a:2", other(TRUE, 0, flags=1)), False),
    ],
)
def test_one_hosts_cpu_agrees_to_the_bit_and_others_within_the_tolerances(first, second, same):
    assert agree(Measured(*first), Measured(*second)) == same
    assert agree(Measured(*second), Measured(*first)) == same


LIE, ANOTHER = other(TRUE, -0.3), other(TRUE, -0.6)


@pytest.mark.parametrize(
    ("measured", "judgement"),
    [
        ([("w", TRUE), ("v", TRUE)], Judgement(Outcome.AGREED)),
        ([("w", TRUE), ("w", TRUE)], Judgement(Outcome.AGREED)),
        ([("w", LIE), ("v", TRUE)], Judgement(Outcome.AGAIN)),
        ([("w", LIE), ("v", TRUE), ("u", TRUE)], Judgement(Outcome.REFUTED, "w")),
        ([("w", TRUE), ("v", LIE), ("u", TRUE)], Judgement(Outcome.REFUTED, "v")),
        ([("w", LIE), ("v", TRUE), ("u", ANOTHER)], Judgement(Outcome.UNDECIDED)),
        ([("w", LIE), ("v", TRUE), ("v", TRUE)], Judgement(Outcome.UNDECIDED)),
        ([("w", LIE), ("v", TRUE), ("w", LIE)], Judgement(Outcome.UNDECIDED)),
        ([("w", LIE), ("w", TRUE), ("w", TRUE)], Judgement(Outcome.UNDECIDED)),
        ([("w", LIE), ("v", TRUE), ("w", TRUE)], Judgement(Outcome.REFUTED, "w")),  # its error did not come again
        ([("w", TRUE), ("v", LIE), ("v", TRUE)], Judgement(Outcome.REFUTED, "v")),
    ],
)
def test_two_workers_that_agree_refute_a_third_report_and_nobody_outvotes_others_alone(measured, judgement):
    assert judge([Measured(*one) for one in measured]) == judgement


def test_a_third_measurement_between_two_that_are_just_too_far_apart_reconciles_them():
    ends = [Measured(f"{host}:1", other(TRUE, by)) for host, by in (("a", 0.0), ("b", 0.16), ("c", 0.08))]
    assert judge(ends[:2]).outcome is Outcome.AGAIN
    assert judge(ends) == Judgement(Outcome.AGREED)


def test_the_finding_says_how_much_was_measured_again_by_whom_and_how_far_it_was_off():
    mine, others = Measured("a:1", TRUE), Measured("b:1", other(TRUE, 0.01))
    found = finding([(mine, Measured("a:1", TRUE)), (mine, others)])
    assert found.verdict is Verdict.PASS
    assert 0 < found.seen < found.threshold
    assert found.sentence.startswith("2 shards drawn at random gave the same outcomes when 32 of the examples")
    assert "by 2 workers, 1 shard by the worker that had reported, in a fresh process" in found.sentence
    exact = finding([(mine, Measured("a:2", TRUE))])
    assert (exact.seen, exact.threshold) == (0.0, 0.0)
    assert "fresh process" not in exact.sentence
