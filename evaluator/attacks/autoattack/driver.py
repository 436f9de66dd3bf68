"""AutoAttack standard with the reference's outcome of every example, and the passes that this takes and no others.

What an attack draws belongs to the protocol's chunk; the batches it runs in span chunks and shrink with what is left.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from evaluator.attacks.answering import answered_by
from evaluator.attacks.autoattack import apgd, fab, square
from evaluator.attacks.autoattack.draws import Draws
from evaluator.attacks.autoattack.folding import folded
from evaluator.attacks.autoattack.passes import Passes, in_bfloat16
from evaluator.attacks.autoattack.reference import recorded_warnings, warn_of_model, warn_of_square, warn_of_zeros
from evaluator.attacks.budget import verify
from evaluator.attacks.graphs import replayed
from evaluator.combine import AUTOATTACK_ORDER
from evaluator.exceptions import InvalidRequest
from evaluator.protocol import AutoAttackSettings
from evaluator.types import AutoAttackVersion, ThreatModel


def first_broken_by(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat_model: ThreatModel,
    settings: AutoAttackSettings,
    batch_size: int,
    tick: Callable[[], None],
    attacks: Sequence[str] = AUTOATTACK_ORDER,
    targets: int = apgd.TARGETS,
) -> tuple[list[str], tuple[str, ...]]:
    """Attack images [n, c, h, w] in [0, 1] with labels [n], any number of chunks; see the package's door.

    Raises:
        InvalidRequest: the model tells fewer classes apart than AutoAttack standard has targets for.
    """
    low = settings.version is AutoAttackVersion.LOW_PRECISION
    passes = Passes(model, batch_size=batch_size, tick=tick, confirm=model.forward if low else None)
    logits = passes.logits(images)
    if logits.shape[1] <= apgd.TARGETS:
        raise InvalidRequest(
            f"AutoAttack {settings.version} attacks towards {apgd.TARGETS} other classes, but the model knows "
            f"{logits.shape[1]} in all; measure it without AutoAttack"
        )
    ranking = logits.sort(dim=1)[1]
    fast = folded(model, images)
    answer = in_bfloat16(fast.forward) if low else fast.forward
    robust = logits.argmax(1) == labels
    outcomes = ["robust" if still else "clean" for still in robust.tolist()]

    def chunks_of(left: Tensor) -> list[slice]:
        return [rows for _, rows in Draws(settings.chunk_size, settings.seed).chunks(left)]

    def on_gradient(gradient: Tensor, left: Tensor) -> None:
        for rows in chunks_of(left):
            warn_of_zeros(gradient[rows])

    with recorded_warnings() as warnings:
        left = robust.nonzero().squeeze(1)
        for rows in chunks_of(left):
            warn_of_model(model, passes.logits, images[left[rows]], labels[left[rows]])
        for name in attacks:
            left = robust.nonzero().squeeze(1)
            if len(left) == 0:
                break
            x, y, draws = images[left], labels[left], Draws(settings.chunk_size, settings.seed)
            with answered_by(model, replayed(answer, images.device)):
                match name:
                    case "apgd-ce":
                        adversarial = apgd.untargeted(passes, x, y, left, threat_model, draws)
                    case "apgd-t":
                        adversarial = apgd.targeted(
                            passes, x, y, left, threat_model, draws, ranking[left], on_gradient, targets
                        )  # fmt: skip
                    case "fab-t":
                        adversarial = fab.targeted(passes, x, y, threat_model, ranking[left])
                    case "square":
                        adversarial = square.attack(passes, x, y, left, threat_model, draws, model if low else fast)
            verify(adversarial, x, threat_model)
            broken = left[passes.logits(adversarial).argmax(1) != y]
            robust[broken] = False
            for i in broken.tolist():
                outcomes[i] = name
        for rows in chunks_of(torch.arange(len(images))):
            warn_of_square(outcomes[rows])
    return outcomes, tuple(dict.fromkeys(warnings))
