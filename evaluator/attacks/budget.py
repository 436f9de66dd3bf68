"""What an attack may do to an image: steps, projections and the check that no attack went further."""

import torch
from torch import Tensor

from evaluator.exceptions import InvalidResult
from evaluator.types import Norm, ThreatModel


def norms(perturbation: Tensor, norm: Norm) -> Tensor:
    """Return the norm of each example's perturbation: [n, …] → [n, 1, …, 1]."""
    flat = perturbation.flatten(1)
    values = flat.abs().amax(1) if norm is Norm.LINF else flat.norm(dim=1)
    return values.reshape(-1, *[1] * (perturbation.dim() - 1))


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the direction of steepest ascent of unit norm: the sign for L∞, the normalised gradient for L2."""
    if norm is Norm.LINF:
        return gradient.sign()
    return gradient / norms(gradient, norm).clamp_min(torch.finfo(gradient.dtype).tiny)


class Ball:
    """The box [0, 1] and the ε-ball around images [n, …] in it: the budget, ready for many projections."""

    def __init__(self, like: Tensor, threat_model: ThreatModel) -> None:
        self._threat_model = threat_model
        self._images, self._low, self._high = (torch.empty_like(like) for _ in range(3))

    def move_to(self, images: Tensor) -> None:
        """Surround other images of the same shape, in the same memory."""
        epsilon = self._threat_model.epsilon
        self._images.copy_(images)
        torch.sub(images, epsilon, out=self._low).clamp_(0, 1)
        torch.add(images, epsilon, out=self._high).clamp_(0, 1)

    def project_(self, candidates: Tensor) -> Tensor:
        """Move `candidates` [n, …] into the box, then into the ball, in place; return them.

        The ball contains the image, so the second step never leaves the box again, and in L∞ both are one.
        """
        if self._threat_model.norm is Norm.LINF:
            return torch.clamp(candidates, self._low, self._high, out=candidates)
        perturbation = candidates.clamp_(0, 1) - self._images
        epsilon = self._threat_model.epsilon
        perturbation *= epsilon / norms(perturbation, Norm.L2).clamp_min(epsilon)
        return torch.add(self._images, perturbation, out=candidates)


def verify(adversarial: Tensor, images: Tensor, threat_model: ThreatModel, *, tolerance: float = 1e-5) -> None:
    """Check that every adversarial image [n, …] is within the budget.

    Raises:
        InvalidResult: an image is outside the box or the ball by more than `tolerance`, or is not finite.
    """
    if adversarial.shape != images.shape:
        raise InvalidResult(f"an attack returned images of shape {tuple(adversarial.shape)}, not {tuple(images.shape)}")
    largest = norms(adversarial - images, threat_model.norm).amax().item()
    low, high = adversarial.amin().item(), adversarial.amax().item()
    if not (largest <= threat_model.epsilon + tolerance and low >= -tolerance and high <= 1 + tolerance):
        raise InvalidResult(
            f"an attack left its budget: {threat_model.norm} norm {largest:.6g} of {threat_model.epsilon:.6g} allowed, "
            f"values in [{low:.6g}, {high:.6g}] of [0, 1]"
        )
