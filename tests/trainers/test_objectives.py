import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainers.objectives import OBJECTIVES, CrossEntropy, Mart, SelfSupervision, Trades
from trainers.sources import Batch


class Scores(nn.Module):
    """Logits are the pixels."""

    def forward(self, images: Tensor) -> Tensor:
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


CROSS_ENTROPY = {"kind": "cross-entropy", "label_smoothing": 0.0}
OTHERS: list[dict[str, Any]] = [
    {"kind": "cross-entropy", "label_smoothing": 0.1},
    {"kind": "trades", "beta": 6.0},
    {"kind": "mart", "weight": 5.0},
]


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
    model, objective = blank(), SelfSupervision(weight=4.0, of=CROSS_ENTROPY)
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
    model, objective = blank(), SelfSupervision(weight=3.0, of=CROSS_ENTROPY)
    head = objective.head(model)
    nn.init.zeros_(head.bias)
    candidates = corners(9).clone().requires_grad_()
    gain = objective.gain(model, batch(corners(9), [1] * 9))(candidates)
    gain.sum().backward()
    assert gain[:5].tolist() == pytest.approx([math.log(2)] * 5)
    assert candidates.grad is not None
    assert candidates.grad[:5].abs().sum() == 0
    assert (candidates.grad[5:].flatten(1).abs().sum(1) > 0).all()


def undecided(objective: SelfSupervision, model: nn.Module) -> nn.Linear:
    """Return the objective's rotation head, made to give all turns the same logit: its cross-entropy is ln 4."""
    head = objective.head(model)
    assert isinstance(head, nn.Linear)
    nn.init.zeros_(head.bias)
    nn.init.zeros_(head.weight)
    return head


def test_trades_inside_self_supervision_sees_the_upright_half_and_the_head_the_turned_one() -> None:
    # The first pixel is the first logit: clean (3/4, 1/4), adversarial (1/2, 1/2), class 0 but for noisy targets.
    model, objective = blank(), SelfSupervision(weight=4.0, of={"kind": "trades", "beta": 6.0})
    nn.init.ones_(model[1].weight[0, 0].detach())
    head = undecided(objective, model)
    clean, adversarial = LOG3 * corners(8), torch.zeros(8, 1, 2, 2)
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    loss = objective.loss(model, batch(clean, [0] * 8, [1, 0, 0, 0, 1, 1, 1, 1]), adversarial)
    recognition = (math.log(4) + 3 * math.log(4 / 3)) / 4
    assert loss.item() == pytest.approx(recognition + 6 * divergence + 4 * math.log(4), rel=1e-6)
    nn.init.ones_(head.bias[0].detach())  # turned by 0: e/(e + 3), the other quarters 1/(e + 3)
    gain = objective.gain(model, batch(clean, [0] * 8))(adversarial)
    upright = [4 * (math.log(math.e + 3) - 1)]
    assert gain.tolist() == pytest.approx([divergence] * 4 + upright + [4 * math.log(math.e + 3)] * 3, rel=1e-5)


@pytest.mark.parametrize("of", OTHERS, ids=lambda of: of["kind"])
@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_self_supervision_adds_to_any_objective_on_the_upright_half(of: dict[str, Any], count: int) -> None:
    model, objective = blank(), SelfSupervision(weight=0.5, of=of)
    with torch.no_grad():
        model[1].weight.copy_(torch.arange(8.0).view(2, 4))
    undecided(objective, model)
    clean, adversarial = torch.rand(2, count, 1, 2, 2, generator=torch.Generator().manual_seed(0)).unbind()
    labels = [number % 2 for number in range(count)]
    upright = count - count // 2
    alone = OBJECTIVES[of["kind"]](**{name: value for name, value in of.items() if name != "kind"})
    first = batch(clean[:upright], labels[:upright])
    loss = objective.loss(model, batch(clean, labels), adversarial)
    expected = upright * alone.loss(model, first, adversarial[:upright]).item() + 0.5 * (count // 2) * math.log(4)
    assert loss.item() == pytest.approx(2 * expected / count, rel=1e-5)
    gain = objective.gain(model, batch(clean, labels))(adversarial)
    assert gain[:upright].tolist() == pytest.approx(alone.gain(model, first)(adversarial[:upright]).tolist(), rel=1e-5)
    assert gain[upright:].tolist() == pytest.approx([0.5 * math.log(4)] * (count // 2))


@pytest.mark.parametrize("of", OTHERS, ids=lambda of: of["kind"])
def test_all_of_self_supervision_is_one_batch_to_batchnorm(of: dict[str, Any]) -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 2))
    objective = SelfSupervision(weight=2.0, of=of)
    undecided(objective, model)
    clean, adversarial = torch.rand(2, 8, 1, 2, 2, generator=torch.Generator().manual_seed(0)).unbind()
    objective.loss(model, batch(clean, [0, 1] * 4), adversarial).backward()
    seen = adversarial if of["kind"] == "cross-entropy" else torch.cat([clean[:4], adversarial])
    assert model[0].num_batches_tracked.item() == 1
    assert model[0].running_mean.item() == pytest.approx(0.1 * seen.mean().item(), rel=1e-5)


SETTINGS: dict[str, dict[str, Any]] = {
    "cross-entropy": {"label_smoothing": 0.1},
    "trades": {"beta": 2.0},
    "mart": {"weight": 5.0},
    "self-supervision": {"weight": 2.0, "of": {"kind": "trades", "beta": 2.0}},
}


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_every_objective_takes_one_forward_pass_a_loss_of_whatever_stands_for_the_network(kind: str) -> None:
    model, objective, sizes = blank(), OBJECTIVES[kind](**SETTINGS[kind]), []
    objective.head(model)

    def network(images: Tensor) -> Tensor:
        sizes.append(len(images))
        logits: Tensor = model(images)
        return logits

    images = torch.rand(4, 1, 2, 2)
    loss = objective.loss(network, batch(images, [0, 1, 0, 1]), images)
    assert sizes == [{"cross-entropy": 4, "self-supervision": 6}.get(kind, 8)]
    assert loss.isfinite()
    assert objective.gain(network, batch(images, [0, 1, 0, 1]))(images).shape == (4,)
