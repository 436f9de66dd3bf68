"""How stages are cut into pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.metrics import StageName
from evaluator.plan import FIRST_EXAMPLES, GROWTH, Cost, cut, plan
from evaluator.results import ShardSpec
from evaluator.shipped import DIGITS_DEMO, DIGITS_LINF, SMOKE
from evaluator.types import Split

COSTS = st.builds(Cost, st.integers(1, 1000), st.floats(0, 1e4))


@pytest.mark.parametrize("protocol", [SMOKE, DIGITS_DEMO, DIGITS_LINF], ids=lambda protocol: protocol.label)
@given(costs=st.lists(COSTS, min_size=1, max_size=5), target=st.floats(0.1, 1e3))
def test_pieces_cover_a_stage_once_whatever_they_cost(protocol, costs, target):
    for whole in plan(protocol):
        rest, covered, number = whole, 0, 0
        while rest is not None:
            spec, rest = cut(protocol, rest, last=costs[number % len(costs)], target_seconds=target)
            assert (spec.stage, spec.split, spec.weight_sample, spec.start) == (*_place(whole), covered)
            assert len(spec) > 0
            covered, number = spec.stop, number + 1
        assert covered == whole.stop


@given(size=st.integers(1, 500), cost=COSTS, target=st.floats(0.1, 1e3))
def test_no_piece_but_a_whole_stage_has_fewer_examples_than_keep_the_bits(size, cost, target):
    spec, rest = cut(SMOKE, ShardSpec(StageName.ROBUST_LOSS, Split.TEST, 0, size), last=cost, target_seconds=target)
    assert len(spec) >= min(size, FIRST_EXAMPLES)
    assert rest is None or len(rest) >= FIRST_EXAMPLES


@given(start=st.integers(0, 5), size=st.integers(1, 50), cost=COSTS)
def test_autoattack_is_cut_between_the_protocols_chunks(start, size, cost):
    chunk = SMOKE.autoattack.chunk_size
    whole = ShardSpec(StageName.AUTOATTACK, Split.TEST, start * chunk, start * chunk + size)
    _, rest = cut(SMOKE, whole, last=cost, target_seconds=10)
    assert rest is None or rest.start % chunk == 0


def test_a_piece_aims_at_the_target_and_grows_at_most_eightfold():
    def size(last: Cost | None, target_seconds: float = 10.0) -> int:
        whole = ShardSpec(StageName.FLATNESS, Split.TEST, 0, 10_000, 0)
        return len(cut(DIGITS_LINF, whole, last=last, target_seconds=target_seconds)[0])

    assert size(None) == FIRST_EXAMPLES
    assert size(Cost(100, 5.0)) == 200
    assert size(Cost(100, 50.0)) == 20
    assert size(Cost(100, 5.0), target_seconds=120) == 100 * GROWTH
    assert size(Cost(100, 5000.0)) == FIRST_EXAMPLES


def test_the_last_pieces_of_a_stage_shrink_to_a_tenth_of_the_target():
    rest, sizes = ShardSpec(StageName.FLATNESS, Split.TEST, 0, 1000, 0), []
    while rest is not None:
        spec, rest = cut(DIGITS_LINF, rest, last=Cost(400, 10.0), target_seconds=10)
        sizes.append(len(spec))
    assert sizes == [400, 300, 148, 76, 40, 36]


def _place(spec: ShardSpec) -> tuple[StageName, Split, int | None]:
    return spec.stage, spec.split, spec.weight_sample
