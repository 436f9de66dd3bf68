"""Two entries on the same examples: what McNemar, Holm, Agresti and Min, and the paired bootstrap say of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.exceptions import InvalidRequest
from leaderboard.pairs import holm, paired_share, pairs
from leaderboard.statistics import mcnemar

probabilities = st.lists(st.floats(0, 1), max_size=6)
outcomes = st.integers(1, 30).flatmap(lambda n: st.tuples(*[st.text("01", min_size=n, max_size=n)] * 3))


@given(probabilities)
def test_holm_corrects_upwards_keeps_the_order_and_stays_a_probability(p: list[float]) -> None:
    corrected = holm(p)
    assert all(raw <= one <= 1 for raw, one in zip(p, corrected, strict=True))
    order = sorted(range(len(p)), key=p.__getitem__)
    assert [corrected[i] for i in order] == sorted(corrected)
    assert all(one == 1 or one <= len(p) * raw for raw, one in zip(p[:1], corrected[:1], strict=True))


def test_holm_matches_its_steps_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.2]) == [0.2]


@given(outcomes)
def test_every_pair_says_what_its_examples_say_and_turns_its_sign_with_the_order(three: tuple[str, str, str]) -> None:
    robust = dict(zip("abc", three, strict=True))
    found = {(pair.first, pair.second): pair.error for pair in pairs(robust, {})}
    turned = {(pair.second, pair.first): pair.error for pair in pairs(dict(reversed(robust.items())), {})}
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    for (first, second), error in found.items():
        one, other = robust[first], robust[second]
        assert error is not None
        assert error.difference.value == pytest.approx((other.count("1") - one.count("1")) / len(one))
        assert -1 <= error.difference.low <= error.difference.value <= error.difference.high <= 1
        assert error.difference.low < error.difference.high
        assert error.p == mcnemar(one, other) <= error.corrected
        back = turned[first, second]
        assert back is not None
        assert (back.only_first, back.only_second) == (error.only_second, error.only_first)
        assert (back.difference.low, back.difference.high) == pytest.approx(
            (-error.difference.high, -error.difference.low)
        )


def test_the_interval_of_a_difference_matches_its_formula_by_hand() -> None:
    # 12 and 4 of 98: (12.5 − 4.5) / 100 ± 1.96 · √((0.17 − 0.08²) / 100)
    found = paired_share(4, 12, 98)
    assert found == pytest.approx((8 / 98, 0.08 - 1.959964 * 0.1636**0.5 / 10, 0.08 + 1.959964 * 0.1636**0.5 / 10))


def test_entries_that_never_differ_are_not_separable_and_the_interval_still_has_a_width() -> None:
    (pair,) = pairs({"a": "10" * 50, "b": "10" * 50}, {})
    assert pair.error is not None
    assert (pair.error.p, pair.error.separable, pair.error.difference.value) == (1, False, 0)
    assert pair.error.difference.low < 0 < pair.error.difference.high


def test_a_small_difference_of_losses_is_seen_where_the_examples_vary_far_more() -> None:
    losses = np.random.default_rng(0).gamma(1.0, 2.0, 300)
    noise = np.random.default_rng(1).normal(0, 0.05, 300)
    noise -= noise.mean()
    (pair,) = pairs({"a": "", "b": ""}, {"a": losses, "b": losses + 0.03 + noise})
    assert pair.error is None
    assert pair.loss is not None
    assert pair.losses_separable
    assert pair.loss.low < -0.03 < pair.loss.high < 0
    (same,) = pairs({"a": "", "b": ""}, {"a": losses, "b": losses})
    assert not same.losses_separable


def test_what_cannot_be_read_of_one_entry_is_not_made_up() -> None:
    (pair,) = pairs({"a": "10", "b": ""}, {"a": np.zeros(2)})
    assert (pair.error, pair.loss, pair.losses_separable) == (None, None, False)


def test_entries_on_other_examples_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="the same examples"):
        pairs({"a": "10", "b": "1"}, {})
