"""AutoAttack `standard` (Croce & Hein 2020, arXiv:2003.01690): our driver, and the reference package it must equal."""

from collections.abc import Callable, Sequence
from enum import StrEnum

from torch import Tensor, nn

from evaluator.attacks.autoattack import apgd, driver, reference
from evaluator.attacks.autoattack.reference import alias_package
from evaluator.combine import AUTOATTACK_ORDER
from evaluator.protocol import AutoAttackSettings
from evaluator.types import ThreatModel

__all__ = ["Implementation", "alias_package", "first_broken_by"]


class Implementation(StrEnum):
    """Who runs the attacks. The outcomes are the same, so no protocol names one."""

    OURS = "ours"
    REFERENCE = "reference"
    """The package `pyautoattack`, a chunk as one batch: slow, and the yardstick."""


def first_broken_by(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    threat_model: ThreatModel,
    settings: AutoAttackSettings,
    batch_size: int = 128,
    tick: Callable[[], None] = lambda: None,
    implementation: Implementation = Implementation.OURS,
    attacks: Sequence[str] = AUTOATTACK_ORDER,
    targets: int = apgd.TARGETS,
) -> tuple[list[str], tuple[str, ...]]:
    """Attack images [n, c, h, w] in [0, 1] with labels [n], on the model's device, in chunks of `settings.chunk_size`.

    Returns what first broke each example (`clean`, an attack's name, or `robust`) and the package's warnings. An
    example that one attack breaks is not shown to the next. The model is in eval mode and its weights are frozen.
    `batch_size` bounds memory and changes no outcome; `tick` is called before each batch (of the reference: each
    chunk), and what it raises goes through. A preview has fewer `attacks`, and APGD-T fewer `targets`: of ours alone.

    Raises:
        InvalidRequest: the model tells fewer classes apart than AutoAttack standard has targets for.
        InvalidResult: an adversarial image outside the budget (a bug of ours).
    """
    if implementation is Implementation.OURS:
        return driver.first_broken_by(
            model, images, labels, threat_model, settings, batch_size, tick, attacks, targets
        )  # fmt: skip
    outcomes: list[str] = []
    warnings: list[str] = []
    for start in range(0, len(images), settings.chunk_size):
        tick()
        chunk = slice(start, start + settings.chunk_size)
        broken_by, said = reference.first_broken_by(model, images[chunk], labels[chunk], threat_model, settings)
        outcomes += broken_by
        warnings += said
    return outcomes, tuple(dict.fromkeys(warnings))
