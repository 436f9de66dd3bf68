"""FAB (Croce & Hein 2020, arXiv:1907.02044), targeted: towards the linearised boundary, with a pull to the clean image.

Nothing is random in it. It seeks the least perturbation; here an example leaves once one is within the budget.
"""

import torch
from torch import Tensor

from evaluator.attacks.autoattack.passes import Passes
from evaluator.attacks.autoattack.projections import column, length, to_hyperplane
from evaluator.types import ThreatModel

STEPS = 100
TARGETS = 9
_MOST_PULL = 0.1
_OVERSHOOT = 1.05
_BACKWARDS = 0.9
"""The share of its perturbation that an adversarial iterate keeps."""
_LEAST_LENGTH = 1e-8


def targeted(passes: Passes, images: Tensor, labels: Tensor, threat_model: ThreatModel, ranking: Tensor) -> Tensor:
    """Return adversarial images [n, c, h, w], the clean one where none was found within the budget.

    `ranking` [n, classes] are the classes by the logits of the clean image, ascending. As many targets are attacked
    at once as fill a batch.
    """
    adversarial = images.clone()
    rows = torch.arange(len(images), device=images.device)
    target = 2
    while len(rows) and target < TARGETS + 2:
        together = range(target, min(target + max(passes.batch_size // len(rows), 1), TARGETS + 2))
        targets = torch.cat([ranking[rows, -place] for place in together])
        fooled = _towards(passes, images, labels, rows.repeat(len(together)), targets, threat_model, adversarial)
        rows, target = rows[~fooled[rows]], together.stop
    return adversarial


def _towards(
    passes: Passes,
    images: Tensor,
    labels: Tensor,
    rows: Tensor,
    target: Tensor,
    threat_model: ThreatModel,
    adversarial: Tensor,
) -> Tensor:
    """Attack the examples `rows` [m] towards `target` [m]; write what is found, and return who was fooled [n]."""
    norm = threat_model.norm
    fooled = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    x, y = images[rows], labels[rows]
    current = x
    for _ in range(STEPS):
        if len(rows) == 0:
            break
        difference, gradient = _boundary(passes, current, y, target)
        normals = gradient.flatten(1)
        offsets = -difference + (gradient * current).flatten(1).sum(1)
        steps = to_hyperplane(
            torch.cat([current.flatten(1), x.flatten(1)]), normals.repeat(2, 1), offsets.repeat(2), norm
        )
        ahead, home = (step.reshape(x.shape) for step in steps.chunk(2))
        far, near = length(steps, norm).clamp_min(_LEAST_LENGTH).chunk(2)
        pull = column((far / (far + near)).clamp(0, _MOST_PULL), x)
        current = ((current + _OVERSHOOT * ahead) * (1 - pull) + (x + home * _OVERSHOOT) * pull).clamp(0, 1)

        wrong = passes.logits(current).argmax(1) != y
        inside = passes.confirmed(wrong & (length(current - x, norm) <= threat_model.epsilon), current, y)
        if inside.any():
            adversarial[rows[inside]] = current[inside]
            fooled[rows[inside]] = True
            staying = (~fooled[rows]).nonzero().squeeze(1)
            rows, x, y, target, current, wrong = (values[staying] for values in (rows, x, y, target, current, wrong))
        current = torch.where(column(wrong, x), x + (current - x) * _BACKWARDS, current)
    return fooled


def _boundary(passes: Passes, images: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of the target minus those of the label [m], and the gradient of this difference."""

    def difference(logits: Tensor, rows: slice) -> Tensor:
        u = torch.arange(len(logits), device=logits.device)
        return -(logits[u, labels[rows]] - logits[u, targets[rows]])

    _, values, gradient = passes.ascent(images, difference)
    return values, gradient
