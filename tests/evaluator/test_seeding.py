"""Noise is a function of (seed, purpose, split, example, repetition) and of nothing else."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.seeding import ExampleNoise, Purpose, weight_direction
from evaluator.types import Split

GOLDEN_UNIFORM = [[0.36333829164505005, 0.636313259601593, 0.958404541015625]]
GOLDEN_WEIGHTS = [0.9824597835540771, -0.6501431465148926, 2.863980770111084]


def noise(indices: list[int], *, seed: int = 0, purpose: Purpose = Purpose.ROBUST_LOSS_START, repetition: int = 0,
          split: Split = Split.TEST) -> ExampleNoise:  # fmt: skip
    return ExampleNoise(seed, purpose, split, indices, repetition)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=8), st.randoms())
@settings(max_examples=25)
def test_an_example_draws_the_same_in_any_batch_and_order(indices, random):
    shuffled = random.sample(indices, len(indices))
    together = noise(shuffled).uniform((len(shuffled), 3, 2))
    for row, index in enumerate(shuffled):
        assert torch.equal(together[row : row + 1], noise([index]).uniform((1, 3, 2)))


def test_every_part_of_the_key_changes_the_draw():
    drawn = [
        noise([5]),
        noise([6]),
        noise([5], seed=1),
        noise([5], repetition=1),
        noise([5], split=Split.TRAIN),
        noise([5], purpose=Purpose.FLATNESS_START),
    ]
    values = [tuple(source.uniform((1, 8)).flatten().tolist()) for source in drawn]
    assert len(set(values)) == len(drawn)


def test_consecutive_calls_are_fresh_draws():
    source = noise([0])
    assert not torch.equal(source.uniform((1, 4)), source.uniform((1, 4)))


def test_uniform_draws_fill_the_unit_interval_evenly():
    draws = noise(list(range(50))).uniform((50, 1000)).flatten()
    assert draws.min() >= 0
    assert draws.max() < 1
    histogram = torch.histc(draws, bins=10, min=0, max=1)
    # 50,000 draws: each bin holds 5,000 ± 5 standard deviations of about 67
    assert ((histogram - 5000).abs() < 5 * 67).all()


def test_normal_draws_have_the_moments_of_a_standard_normal():
    draws = noise(list(range(50))).normal((50, 1001)).flatten().double()
    assert abs(draws.mean()) < 5 / 50_050**0.5
    assert abs(draws.var() - 1) < 5 * (2 / 50_050) ** 0.5
    assert abs((draws**4).mean() - 3) < 5 * (96 / 50_050) ** 0.5


def test_the_bits_are_those_published_numbers_were_made_with():
    # Golden: any change here changes every published number, and needs new protocol versions.
    assert noise([7], seed=3, repetition=2).uniform((1, 3)).tolist() == GOLDEN_UNIFORM
    torch.testing.assert_close(
        weight_direction(0, "conv.weight", 1, (3,)), torch.tensor(GOLDEN_WEIGHTS), rtol=1e-6, atol=0
    )


def test_a_weight_direction_depends_on_name_and_sample():
    base = weight_direction(0, "conv1.weight", 0, (4, 2))
    assert torch.equal(base, weight_direction(0, "conv1.weight", 0, (4, 2)))
    assert not torch.equal(base, weight_direction(0, "conv2.weight", 0, (4, 2)))
    assert not torch.equal(base, weight_direction(0, "conv1.weight", 1, (4, 2)))


def test_drawing_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    noise([0]).normal((1, 4))
    assert torch.equal(before, torch.random.get_rng_state())
