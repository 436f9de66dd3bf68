"""Probes of where gradients lead: against finite differences, and whether attacks that follow them find anything."""

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluator.attacks import pgd
from evaluator.protocol import Initialization
from evaluator.seeding import Noise
from evaluator.trust.probed import Probed, scale
from evaluator.types import Norm, ThreatModel

_STEPS = 20
"""Of PGD here, and as many random points."""

_INTERIOR = 0.005
"""How far from black and white the points lie at which gradients are compared: networks may clamp their inputs."""

_CHANGE = 0.01
"""By how much of its scale a finite difference should change a margin: float32 resolves it, and it is nearly linear."""

_TINY_GRADIENT = 1e-12
_SMALLEST = 1e-30


def slopes(probed: Probed, images: Tensor, labels: Tensor, threat_model: ThreatModel, noise: Noise) -> dict[str, float]:
    """Look at the loss's gradient at random points of the budget, and compare the margin's with finite differences.

    The margin is the true logit minus the largest other one at the point; random directions are random signs.
    """
    start = pgd.initial_perturbation(images.shape, Initialization.UNIFORM, threat_model, noise).to(images.device)
    points = (images + start).clamp(_INTERIOR, 1 - _INTERIOR)
    signs = (noise.uniform(images.shape) - 0.5).sign().to(images.device)
    steepest, along, across, expected = [], [], [], []
    for x, y, sign in probed.batches(points, labels, signs):
        x.requires_grad_()
        logits = probed(x)
        others = logits.detach().scatter(1, y[:, None], -torch.inf).argmax(1)
        margin = _margins(logits, y, others).sum()
        (of_loss,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), x, retain_graph=True)
        (gradient,) = torch.autograd.grad(margin, x)
        steepest.append(of_loss.nan_to_num(0, 0, 0).flatten(1).abs().amax(1))
        gradient, x, change = gradient.nan_to_num(0, 0, 0), x.detach(), _CHANGE * scale(logits.detach())
        slope, found = _differences(probed, x, y, others, gradient, gradient, change)
        along.append(found / slope.clamp_min(_SMALLEST))
        slope, found = _differences(probed, x, y, others, gradient, sign, change)
        across.append(found.abs())
        expected.append(slope.abs())
    largest = torch.cat(steepest)
    return {
        "zero_gradients": float((largest == 0).float().mean()),
        "tiny_gradients": float((largest < _TINY_GRADIENT).float().mean()),
        "gradient_along": float(torch.cat(along).median()),
        "gradient_across": float(torch.cat(across).median() / torch.cat(expected).median().clamp_min(_SMALLEST)),
    }


def attacks(
    probed: Probed, images: Tensor, labels: Tensor, threat_model: ThreatModel, noise: Noise
) -> dict[str, float]:
    """Attack the images without bounds, in one step, in many, and by random points of the budget."""
    size = images[0].numel()
    boundless = ThreatModel(threat_model.norm, 1.0 if threat_model.norm is Norm.LINF else size**0.5)
    starts = [
        pgd.initial_perturbation(images.shape, Initialization.UNIFORM, threat_model, noise).to(images.device)
        for _ in range(_STEPS)
    ]
    broken, clean, one, many, chance = [], [], [], [], []
    for x, y, *random in probed.batches(images, labels, *starts):

        def climb(
            within: ThreatModel, step: float, steps: int, start: Tensor = x, x: Tensor = x, y: Tensor = y
        ) -> Pair:
            def loss(adversarial: Tensor) -> Tensor:
                return F.cross_entropy(probed(adversarial), y, reduction="none")

            return pgd.ascend(loss, x, start, threat_model=within, step_size=step * within.epsilon, steps=steps)

        broken.append(probed.logits(climb(boundless, 0.1, _STEPS)[0]).argmax(1) != y)
        clean.append(climb(threat_model, 0, 0)[1])
        one.append(climb(threat_model, 1, 1)[1])
        many.append(climb(threat_model, 2.5 / _STEPS, _STEPS)[1])
        chance.append(torch.stack([climb(threat_model, 0, 0, x + start)[1] for start in random]).amax(0))

    def rise(losses: list[Tensor]) -> float:
        return max(float((torch.cat(losses) - torch.cat(clean)).mean()), 0.0)

    by_gradients = max(rise(many), _SMALLEST)
    return {
        "huge_budget": float(torch.cat(broken).float().mean()),
        "one_step": rise(one) / by_gradients,
        "chance": rise(chance) / by_gradients,
    }


Pair = tuple[Tensor, Tensor]


def _margins(logits: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    return (logits.gather(1, labels[:, None]) - logits.gather(1, others[:, None]))[:, 0]


def _differences(
    probed: Probed, x: Tensor, y: Tensor, others: Tensor, gradient: Tensor, direction: Tensor, change: Tensor
) -> Pair:
    """Return the margin's slope along `direction` by `gradient` and by central differences, [n] each.

    A step is as long as should change the margin by `change`, within what leaves no pixel outside [0, 1].
    """
    direction = direction / direction.flatten(1).norm(dim=1).clamp_min(_SMALLEST).view(-1, 1, 1, 1)
    slope = (gradient * direction).flatten(1).sum(1)
    longest = _INTERIOR / direction.flatten(1).abs().amax(1).clamp_min(_SMALLEST)
    length = (change / slope.abs().clamp_min(_SMALLEST)).clamp(longest / 100, longest)
    step = direction * length.view(-1, 1, 1, 1)
    above, below = (_margins(probed.logits(point), y, others) for point in (x + step, x - step))
    return slope, (above - below) / (2 * length)
