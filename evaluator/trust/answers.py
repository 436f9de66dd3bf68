"""Probes of what a network answers: the same to the same image, logits, and of which scale."""

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluator.seeding import Noise
from evaluator.trust.probed import Probed, difference, scale

_ALONE = 8
"""How many images are passed alone."""


def repetitions(probed: Probed, images: Tensor, noise: Noise) -> dict[str, float]:
    """Compare logits of the same images: at once again, in other company, and after others, with the same seed.

    Moves torch's global generator.
    """
    torch.manual_seed(0)
    reference = probed.logits(images)
    again = probed.logits(images)
    order = torch.cat([torch.arange(start, len(images), 3) for start in (2, 1, 0)]).to(images.device)
    elsewhere = probed.logits(images[order])
    alone = torch.cat([probed.logits(image) for image in torch.split(images[:_ALONE], 1)])
    probed.logits(noise.uniform(images.shape).to(images.device))
    torch.manual_seed(0)
    afterwards = probed.logits(images)
    return {
        "randomness": difference(again, reference),
        "batch_dependence": max(difference(elsewhere, reference[order]), difference(alone, reference[:_ALONE])),
        "state": difference(afterwards, reference),
    }


def outputs(probed: Probed, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Say how far the logits are from probabilities and from their logarithms, and what their scale is."""
    logits = probed.logits(images).double()
    sums, unit = logits.sum(1), scale(logits)
    unequal = (sums - sums.mean()).abs().amax() / sums.abs().mean().clamp_min(1e-30)
    return {
        "probabilities": max(0.0, float(-logits.amin() / unit), float(unequal)),
        "log_probabilities": float(logits.logsumexp(1).abs().amax() / unit),
        "temperature": temperature(logits, labels),
        "clean_loss": float(F.cross_entropy(logits, labels)),
    }


def temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the T in [2⁻³⁰, 2³⁰] that minimises the cross-entropy of `logits` [n, classes] / T.

    The images count n times and one more that could be of any class: where all are right, T would else be 0.
    """
    n, classes = logits.shape
    target = (n * F.one_hot(labels, classes) + 1 / classes) / (n + 1)
    low, high = -30.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        slope = ((logits / 2**middle).softmax(1) - target).mul(logits).sum()
        low, high = (middle, high) if slope > 0 else (low, middle)  # too confident: T must be larger
    return float(2 ** ((low + high) / 2))
