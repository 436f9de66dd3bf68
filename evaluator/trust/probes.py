"""What is measured on a model before its robustness is believed: a number for each of `findings.PROBES`."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from evaluator.protocol import EvaluationProtocol
from evaluator.seeding import ExampleNoise, Purpose
from evaluator.trust.answers import outputs, repetitions
from evaluator.trust.findings import LARGEST
from evaluator.trust.gradients import attacks, slopes
from evaluator.trust.probed import Probed
from evaluator.trust.rescaling import copies
from evaluator.types import Split


def probe(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    protocol: EvaluationProtocol,
    batch_size: int,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Return the probes of `model`, in eval mode and frozen, on the first test images [n, c, h, w] and labels [n].

    `rescaled_copy` is absent where no convolution is followed by a BatchNorm. Each image takes 81 passes forward and 43
    backward. The model and the global generators are left as they were.
    """
    probed = Probed(model, batch_size, tick)
    noise = ExampleNoise(protocol.seed, Purpose.TRUST, Split.TEST, range(len(images)), 0)
    with torch.random.fork_rng():
        values = repetitions(probed, images, noise) | outputs(probed, images, labels)
        values |= slopes(probed, images, labels, protocol.threat_model, noise)
        values |= attacks(probed, images, labels, protocol.threat_model, noise)
        values["not_finite"] = probed.not_finite / probed.passed
        values |= copies(probed, images, neighborhood=protocol.flatness.neighborhood, seed=protocol.seed)
    return {name: min(max(value, -LARGEST), LARGEST) for name, value in values.items()}
