"""No attack leaves its budget, and projections put every point back inside."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.attacks.budget import Ball, norms, steepest, verify
from evaluator.exceptions import InvalidResult
from evaluator.types import Norm, ThreatModel


def project(candidates, images, threat_model):
    ball = Ball(images, threat_model)
    ball.move_to(images)
    return ball.project_(candidates.clone())


def points(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(4, 1, 3, 3, generator=generator)
    return images, images + torch.randn(images.shape, generator=generator)


@pytest.mark.parametrize("norm", Norm)
@given(seed=st.integers(0, 2**31), epsilon=st.floats(1e-3, 2))
@settings(max_examples=40)
def test_a_projected_point_is_in_box_and_ball_and_stays_there(norm, seed, epsilon):
    images, candidates = points(seed)
    budget = ThreatModel(norm, epsilon)
    inside = project(candidates, images, budget)
    verify(inside, images, budget, tolerance=1e-6)
    torch.testing.assert_close(project(inside, images, budget), inside, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", Norm)
def test_a_point_inside_is_not_moved(norm):
    images = torch.full((2, 1, 2, 2), 0.5)
    near = images + 0.01
    torch.testing.assert_close(project(near, images, ThreatModel(norm, 0.1)), near, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("norm", "expected"), [(Norm.LINF, [[1.0, -1.0]]), (Norm.L2, [[0.6, -0.8]])], ids=lambda v: str(v)
)
def test_the_steepest_direction_has_unit_norm(norm, expected):
    direction = steepest(torch.tensor([[3.0, -4.0]]), norm)
    torch.testing.assert_close(direction, torch.tensor(expected))
    assert norms(direction, norm).item() == pytest.approx(1)


def test_a_zero_gradient_gives_no_direction_rather_than_nan():
    assert torch.equal(steepest(torch.zeros(1, 2), Norm.L2), torch.zeros(1, 2))


@pytest.mark.parametrize(
    "adversarial", [torch.full((1, 1, 1, 1), 0.7), torch.full((1, 1, 1, 1), torch.nan)], ids=["too far", "nan"]
)
def test_an_attack_that_left_its_budget_is_refused(adversarial):
    with pytest.raises(InvalidResult, match=r"left its budget: Linf norm"):
        verify(adversarial, torch.full((1, 1, 1, 1), 0.5), ThreatModel(Norm.LINF, 0.1))


def test_one_clamp_is_the_box_and_then_the_cube_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(50, 3, 4, 4, generator=generator)
    images[0], images[1] = 0, 1
    candidates = images + torch.randn(images.shape, generator=generator)
    expected = torch.clamp(candidates.clamp(0, 1), images - 0.1, images + 0.1)
    assert torch.equal(project(candidates, images, ThreatModel(Norm.LINF, 0.1)), expected)
