import math

import pytest
import torch
from torch import Tensor, nn

from trainers.objectives import OBJECTIVES, CrossEntropy, Mart, SelfSupervision, Trades
from trainers.sources import Batch


class Scores(nn.Module):
    """Logits are the pixels; counts the forward passes."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images.flatten(1)


def pixels(*rows: list[float]) -> Tensor:
    return torch.tensor(rows).reshape(len(rows), 1, 1, -1)


def batch(images: Tensor, labels: list[int], targets: list[int] | None = None) -> Batch:
    return Batch(images, torch.tensor(labels), torch.tensor(targets or labels))


LOG3 = math.log(3.0)


def test_label_smoothing_mixes_the_target_with_the_uniform_distribution() -> None:
    # Probabilities (3/4, 1/4), target 0, smoothing 0.2: 0.9 · ln(4/3) + 0.1 · ln 4.
    loss = CrossEntropy(label_smoothing=0.2).loss(Scores(), batch(pixels([0.0, 0.0]), [0]), pixels([LOG3, 0.0]))
    assert loss.item() == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4), rel=1e-6)


def test_the_attack_on_cross_entropy_knows_the_truth_and_no_smoothing() -> None:
    images = pixels([LOG3, 0.0], [LOG3, 0.0])
    gain = CrossEntropy(label_smoothing=0.5).gain(Scores(), batch(images, [0, 1], [1, 1]))(images)
    assert gain.tolist() == pytest.approx([math.log(4 / 3), math.log(4)], rel=1e-6)


def test_trades_is_clean_cross_entropy_plus_beta_times_the_divergence() -> None:
    # Clean (3/4, 1/4), adversarial (1/2, 1/2): KL(clean ‖ adversarial) = 3/4 ln(3/2) + 1/4 ln(1/2).
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    clean, adversarial = pixels([LOG3, 0.0]), pixels([0.0, 0.0])
    loss = Trades(beta=6.0).loss(Scores(), batch(clean, [0]), adversarial)
    assert loss.item() == pytest.approx(math.log(4 / 3) + 6 * divergence, rel=1e-6)
    gain = Trades(beta=6.0).gain(Scores(), batch(clean, [0]))(adversarial)
    assert gain.tolist() == pytest.approx([divergence], rel=1e-6)


def test_trades_averages_over_examples_and_takes_noisy_targets_for_its_clean_part() -> None:
    clean = pixels([LOG3, 0.0], [0.0, 0.0])
    loss = Trades(beta=1.0).loss(Scores(), batch(clean, [0, 0], [1, 0]), clean)
    assert loss.item() == pytest.approx((math.log(4) + math.log(2)) / 2, rel=1e-6)


def test_mart_is_boosted_cross_entropy_plus_the_divergence_weighted_by_doubt() -> None:
    # Clean (3/5, 1/5, 1/5), adversarial (1/4, 1/2, 1/4), class 0: boosted ln 4 − ln(1 − 1/2), doubt 1 − 3/5.
    clean, adversarial = pixels([LOG3, 0.0, 0.0]), pixels([0.0, math.log(2.0), 0.0])
    divergence = 0.6 * math.log(0.6 / 0.25) + 0.2 * math.log(0.2 / 0.5) + 0.2 * math.log(0.2 / 0.25)
    loss = Mart(weight=5.0).loss(Scores(), batch(clean, [0]), adversarial)
    assert loss.item() == pytest.approx(math.log(4) + math.log(2) + 5 * 0.4 * divergence, rel=1e-6)
    gain = Mart(weight=5.0).gain(Scores(), batch(clean, [0]))(adversarial)
    assert gain.tolist() == pytest.approx([math.log(4)], rel=1e-6)


def test_mart_boosts_by_the_largest_wrong_class_also_when_the_right_one_leads() -> None:
    # (1/2, 1/3, 1/6) for class 0: −ln(1/2) − ln(1 − 1/3); clean and adversarial agree, so nothing diverges.
    images = pixels([math.log(3.0), math.log(2.0), 0.0])
    loss = Mart(weight=5.0).loss(Scores(), batch(images, [0]), images)
    assert loss.item() == pytest.approx(math.log(2) + math.log(1.5), rel=1e-6)


def test_mart_and_its_gradient_stay_finite_where_a_wrong_class_is_certain() -> None:
    images = pixels([0.0, 500.0, 0.0]).requires_grad_()
    loss = Mart(weight=5.0).loss(Scores(), batch(images, [0]), images)
    loss.backward()
    assert loss.item() == pytest.approx(500 + 500 - math.log(2), rel=1e-6)
    assert images.grad is not None
    assert images.grad.isfinite().all()


def blank() -> nn.Sequential:
    """Return a network that gives both classes the same logit; its penultimate features are the pixels."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def corners(count: int) -> Tensor:
    """Return images [count, 1, 2, 2] that are bright at the upper left."""
    return torch.tensor([[1.0, 0.0], [0.0, 0.0]]).expand(count, 1, 2, 2)


def test_the_rotation_head_sees_the_second_half_turned_by_each_quarter() -> None:
    # A quarter turn takes the upper left corner to the lower left, then the lower right, then the upper right.
    model, objective = blank(), SelfSupervision(weight=4.0)
    head = objective.head(model)
    assert isinstance(head, nn.Linear)
    nn.init.zeros_(head.bias)
    nn.init.zeros_(head.weight)
    loss = objective.loss(model, batch(corners(8), [0] * 8), corners(8))
    assert loss.item() == pytest.approx(math.log(2) + 4 * math.log(4), rel=1e-6)
    for turn, pixel in enumerate([0, 2, 3, 1]):
        head.weight.data[turn, pixel] = 50.0
    assert objective.loss(model, batch(corners(8), [0] * 8), corners(8)).item() == pytest.approx(math.log(2), rel=1e-6)


def test_the_attack_raises_the_error_of_the_rotation_head_too() -> None:
    model, objective = blank(), SelfSupervision(weight=3.0)
    head = objective.head(model)
    nn.init.zeros_(head.bias)
    candidates = corners(9).clone().requires_grad_()
    gain = objective.gain(model, batch(corners(9), [1] * 9))(candidates)
    gain.sum().backward()
    assert gain[:5].tolist() == pytest.approx([math.log(2)] * 5)
    assert candidates.grad is not None
    assert candidates.grad[:5].abs().sum() == 0
    assert (candidates.grad[5:].flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("cross-entropy", {"label_smoothing": 0.1}), ("trades", {"beta": 2.0}), ("mart", {"weight": 5.0})],
)
def test_every_objective_takes_one_forward_pass_a_loss(kind: str, settings: dict[str, float]) -> None:
    model, images = Scores(), pixels([1.0, 0.0], [0.0, 1.0])
    OBJECTIVES[kind](**settings).loss(model, batch(images, [0, 1]), images)
    assert model.calls == 1


def test_no_objective_is_left_untested() -> None:
    assert set(OBJECTIVES) == {"cross-entropy", "trades", "mart", "self-supervision"}
