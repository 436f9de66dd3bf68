"""The inner maximisation: from a batch and what to raise to adversarial images, by the evaluator's own PGD."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from evaluator.attacks.pgd import Gain, ascend, initial_perturbation
from evaluator.devices import sent
from evaluator.seeding import Noise
from evaluator.types import ThreatModel
from trainers.settings import NoAttackSettings, PgdAttackSettings


def maximise(
    model: nn.Module,
    images: Tensor,
    gain: Callable[[], Gain],
    settings: NoAttackSettings | PgdAttackSettings,
    noise: Noise,
) -> Tensor:
    """Return adversarial images [n, c, h, w] for `images`, found in eval mode with frozen weights.

    `gain` is called once in that mode. Mode and weights are afterwards as they were.
    """
    if isinstance(settings, NoAttackSettings):
        return images
    threat_model = ThreatModel(settings.norm, settings.epsilon)
    start = initial_perturbation(images.shape, settings.initialization, threat_model, noise)
    with frozen(model):
        adversarial, _ = ascend(
            gain(),
            images,
            images + sent(start, images.device),
            threat_model=threat_model,
            step_size=settings.step_size,
            steps=settings.steps,
        )
    return adversarial


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put `model` into eval mode with weights that take no gradient, then back as it was."""
    training = model.training
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        model.train(training)
        for parameter in learning:
            parameter.requires_grad_(True)
