"""Projected gradient ascent on the inputs, best iterate kept per example (Madry et al. 2018; Stutz et al. 2021)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluator.attacks.answering import answered_by
from evaluator.attacks.budget import Ball, norms, steepest, verify
from evaluator.attacks.fixed_statistics import fixed_statistics
from evaluator.attacks.graphs import replayed
from evaluator.devices import sent
from evaluator.protocol import Initialization, PgdSettings
from evaluator.seeding import Noise
from evaluator.types import Norm, ThreatModel

Gain = Callable[[Tensor], Tensor]
"""What an attack raises: adversarial images [n, c, h, w] → gain of each example [n]."""


@dataclass(frozen=True)
class RestartOutcomes:
    """What PGD found, an entry an example and restart: three tensors [n, restarts] on the CPU."""

    loss: Tensor
    """Cross-entropy at the best iterate, nats."""
    wrong_class_confidence: Tensor
    """Largest probability of any wrong class there."""
    correct: Tensor
    """Whether the example is still classified correctly there."""


def initial_perturbation(
    shape: Sequence[int], initialization: Initialization, threat_model: ThreatModel, noise: Noise
) -> Tensor:
    """Return a random perturbation [n, …] inside the ε-ball, on the noise's device."""
    epsilon, norm = threat_model.epsilon, threat_model.norm
    if initialization is Initialization.UNIFORM and norm is Norm.LINF:
        return (2 * noise.uniform(shape) - 1) * epsilon
    direction = noise.normal(shape)
    direction = direction / norms(direction, norm)
    radius = noise.uniform((shape[0],)).reshape(-1, *[1] * (len(shape) - 1))
    if initialization is Initialization.UNIFORM:
        radius = radius ** (1 / direction[0].numel())  # uniform in volume
    return direction * radius * epsilon


class Climb:
    """Candidates that rise in place, and the best of them so far; nothing waits for the device.

    `gain` takes candidates [n, …] and returns what is raised, [n], and tensors [n, …] to keep beside each best one.
    All tensors stay where they are, whatever is climbed.
    """

    def __init__(
        self, gain: Callable[[Tensor], tuple[Tensor, ...]], like: Tensor, *, threat_model: ThreatModel, step_size: float
    ) -> None:
        self._ball = Ball(like, threat_model)
        self._gain, self._norm, self._step_size = gain, threat_model.norm, step_size
        self.candidates, self.best = torch.empty_like(like), torch.empty_like(like)
        self.best_gain = torch.empty(len(like), device=like.device)
        self.kept: tuple[Tensor, ...] = ()

    def begin(self, images: Tensor, start: Tensor) -> None:
        """Stand at `start`, within the budget around `images`, and forget what was climbed before."""
        self._ball.move_to(images)
        self.best.copy_(self._ball.project_(self.candidates.copy_(start)))
        self.best_gain.fill_(-torch.inf)
        for kept in self.kept:
            kept.fill_(torch.nan)

    def step(self) -> None:
        """Look, and move the candidates by one step of steepest ascent."""
        with torch.enable_grad():
            values, *worth = self._gain(self.candidates.requires_grad_())
            (gradient,) = torch.autograd.grad(values.sum(), self.candidates)
        self.candidates.requires_grad_(False)
        with torch.no_grad():
            self._keep(values, worth)
            self._ball.project_(self.candidates.add_(steepest(gradient, self._norm).mul_(self._step_size)))

    def look(self) -> None:
        """Ask for the gain where the candidates stand, and keep what is better than before."""
        with torch.no_grad():
            values, *worth = self._gain(self.candidates)
            self._keep(values, worth)

    def _keep(self, values: Tensor, worth: Sequence[Tensor]) -> None:
        if not self.kept:
            self.kept = tuple(torch.full_like(tensor, torch.nan, requires_grad=False) for tensor in worth)
        better = values > self.best_gain
        torch.where(better, values, self.best_gain, out=self.best_gain)
        for tensor, kept in ((self.candidates, self.best), *zip(worth, self.kept, strict=True)):
            torch.where(better.reshape(-1, *[1] * (tensor.dim() - 1)), tensor, kept, out=kept)


def ascend(
    gain: Gain, images: Tensor, start: Tensor, *, threat_model: ThreatModel, step_size: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Raise `gain` from `start` within the budget around `images`, without momentum.

    Returns the best of the steps + 1 iterates of each example, [n, c, h, w], and its gain, [n].
    The caller decides the model's mode and freezes its weights.
    """
    climb = Climb(lambda candidates: (gain(candidates),), images, threat_model=threat_model, step_size=step_size)
    climb.begin(images, start)
    for _ in range(steps):
        climb.step()
    climb.look()
    return climb.best, climb.best_gain


def attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    threat_model: ThreatModel,
    settings: PgdSettings,
    noise: Sequence[Noise],
    batch_size: int | None = None,
    tick: Callable[[], None] = lambda: None,
) -> RestartOutcomes:
    """Run PGD on the cross-entropy once for each source of noise (one a restart).

    `images` [n, c, h, w] in [0, 1] and `labels` [n] lie on the model's device; the model is in eval mode and frozen.
    Restarts share batches of `batch_size` (one restart's examples, unless given); `tick` is called before each. All
    batches are equally large: the last one attacks a few once more that were in the one before.

    Raises:
        InvalidResult: an adversarial image outside the budget (a bug of ours).
    """
    rows = len(images) * len(noise)
    size = -(-rows // -(-rows // (batch_size or len(images))))
    starts = _Starts(images, settings.initialization, threat_model, noise)
    wanted = labels.new_empty(size)

    def gain(candidates: Tensor) -> tuple[Tensor, ...]:
        logits = model(candidates)
        return F.cross_entropy(logits, wanted, reduction="none"), logits

    climb = Climb(gain, torch.cat([images[:1]] * size), threat_model=threat_model, step_size=settings.step_size)
    outcomes = [
        torch.empty(rows, dtype=kind, device=images.device) for kind in (torch.float32, torch.float32, torch.bool)
    ]
    with fixed_statistics(model), answered_by(model, replayed(model.forward, images.device)):
        for first in (min(first, rows - size) for first in range(0, rows, size)):
            tick()
            pieces = list(_pieces(first, size, len(images)))
            attacked = torch.cat([images[piece] for _, piece in pieces])
            torch.cat([labels[piece] for _, piece in pieces], out=wanted)
            climb.begin(attacked, attacked + starts.of(pieces))
            for _ in range(settings.steps):
                climb.step()
            climb.look()
            verify(climb.best, attacked, threat_model)
            (logits,) = climb.kept
            for outcome, found in zip(outcomes, _judged(logits, wanted), strict=True):
                outcome[first : first + size] = found
    return RestartOutcomes(*(outcome.view(len(noise), -1).T.cpu() for outcome in outcomes))


_Piece = tuple[int, slice]
"""Some examples of one restart."""


def _pieces(first: int, size: int, examples: int) -> Iterator[_Piece]:
    """Yield the pieces that `size` rows from `first` on are, where each restart is a row an example."""
    while size:
        restart, begin = divmod(first, examples)
        count = min(size, examples - begin)
        yield restart, slice(begin, begin + count)
        first, size = first + count, size - count


class _Starts:
    """Where restarts begin: drawn a restart at a time, in order, and kept only until the next ones are asked for."""

    def __init__(
        self, images: Tensor, initialization: Initialization, threat_model: ThreatModel, noise: Sequence[Noise]
    ) -> None:
        self._images, self._noise = images, noise
        self._how = initialization, threat_model
        self._drawn: dict[int, Tensor] = {}

    def of(self, pieces: Sequence[_Piece]) -> Tensor:
        """Return the perturbations of pieces whose first is in no restart before that of earlier calls."""
        for restart, _ in pieces:
            if restart not in self._drawn:
                self._drawn[restart] = initial_perturbation(self._images.shape, *self._how, self._noise[restart])
        self._drawn = {restart: self._drawn[restart] for restart, _ in pieces}
        return sent(torch.cat([self._drawn[restart][piece] for restart, piece in pieces]), self._images.device)


def _judged(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return cross-entropy, largest probability of a wrong class, and whether the label is the likeliest: three [n]."""
    wrong = logits.softmax(1).scatter(1, labels[:, None], 0.0).amax(1)
    return F.cross_entropy(logits, labels, reduction="none"), wrong, logits.argmax(1) == labels
