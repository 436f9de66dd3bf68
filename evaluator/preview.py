"""A quick estimate of the robust error on test, while a run is still being measured (torch-free).

PGD and APGD-T, with few restarts and targets, attack every example; all of AutoAttack attacks a random sample. What the
former miss is estimated from the latter (double sampling). A preview is no part of a protocol, enters no result and
decides nothing; the standard number takes its place.
"""

import hashlib
from dataclasses import dataclass, replace
from math import sqrt

from evaluator.exceptions import InvalidRequest
from evaluator.intervals import Estimate, wilson
from evaluator.metrics import StageName
from evaluator.protocol import EvaluationProtocol, PgdSettings
from evaluator.results import ShardResult, ShardSpec
from evaluator.types import Split

TARGETS = 2
"""Towards how many of the likeliest other classes APGD-T goes; AutoAttack's goes towards 9."""

CHEAPLY_BROKEN_BY = ("clean", "pgd", "apgd-t", "robust")
"""What can first break an example before AutoAttack is asked."""

_SHARE = 0.1
"""The share of a run's own passes that a preview takes at most, by the model below."""

_LEAST_SAMPLED = 4
"""oneDNN's bits are the same for any batch of 4 or more."""

_ASCENT = 101 + 101
"""Passes, forward and backward, of 100 steps of APGD on an example that they do not break."""

_AUTOATTACK = 10 * _ASCENT + 1829 + 900 + 630
"""Of all of AutoAttack `standard`: APGD untargeted and at 9 targets, FAB-T, and those of Square's 5000 queries that
change an image, which are fewest on images as small as digits; with more of them a preview's share is smaller."""


@dataclass(frozen=True)
class Preview:
    """The estimated robust error on test with its 95 % interval: `n` examples, `sampled` of them by all attacks."""

    value: float
    low: float
    high: float
    n: int
    sampled: int

    @property
    def basis(self) -> str:
        """What it rests on, in words."""
        return f"from {self.n} examples under few attacks, {self.sampled} of them under all of AutoAttack"


def examples(protocol: EvaluationProtocol) -> int:
    """Return how many test examples a preview looks at: AutoAttack's own; where there are none, there is no preview."""
    return protocol.autoattack_examples.test


def require_preview(protocol: EvaluationProtocol) -> None:
    """Check that there can be a preview.

    Raises:
        InvalidRequest: there is nothing to preview.
    """
    if not examples(protocol):
        raise InvalidRequest(
            f"{protocol.label} measures no robust error on test, of which a preview could be made; leave it out"
        )


def plan_preview(protocol: EvaluationProtocol) -> tuple[ShardSpec, ...]:
    """Return the preview of a protocol, which is never cut, or nothing where AutoAttack measures no test examples."""
    n = examples(protocol)
    return (ShardSpec(StageName.PREVIEW, Split.TEST, 0, n),) if n else ()


def pgd_settings(protocol: EvaluationProtocol) -> PgdSettings:
    """Return the protocol's own PGD, of which a preview takes the first restart."""
    return replace(protocol.robust_loss, restarts=1)


def sampled(protocol: EvaluationProtocol) -> int:
    """Return how many examples all of AutoAttack attacks: for what a tenth of the run's own passes leaves room.

    Counted as if every example withstood every attack; where fewer do, preview and run both take fewer passes.
    """
    n = examples(protocol)
    cheap = n * (_passes(pgd_settings(protocol)) + TARGETS * _ASCENT)
    return min(n, max(_LEAST_SAMPLED, int((_SHARE * planned_passes(protocol) - cheap) / _AUTOATTACK)))


def planned_passes(protocol: EvaluationProtocol) -> int:
    """Return how many passes the stages of a protocol take on a network of which no example is ever broken."""
    flatness = protocol.flatness.samples * _passes(protocol.flatness.attack)
    return sum(
        protocol.clean_examples.count(split)
        + protocol.robust_loss_examples.count(split) * _passes(protocol.robust_loss)
        + protocol.flatness_examples.count(split) * flatness
        + protocol.autoattack_examples.count(split) * _AUTOATTACK
        for split in Split
    )


def sample(protocol: EvaluationProtocol) -> list[int]:
    """Return the examples that all of AutoAttack attacks, ascending: whose numbers come first, hashed with the seed."""
    in_turn = sorted(range(examples(protocol)), key=lambda example: _hashed(protocol.seed, example))
    return sorted(in_turn[: sampled(protocol)])


def estimate(n: int, withstood: int, asked: int, fell: int) -> Estimate:
    """Return the share of broken examples: of `n`, `withstood` the cheap attacks, of `asked` of them `fell` after all.

    What is robust is a product of two shares, of examples that withstand the cheap attacks and of these that withstand
    all of AutoAttack. Each has Wilson's interval, which says something also where nothing fell. MOVER puts them
    together, to first order, as in `intervals.difference`: what falls of the sample does not depend on how many
    withstand.
    """
    first = wilson(withstood, n)
    second = wilson(asked - fell, asked) if asked else Estimate(1.0, 0.0, 1.0)
    robust = first.value * second.value
    below = sqrt((second.value * (first.value - first.low)) ** 2 + (first.value * (second.value - second.low)) ** 2)
    above = sqrt((second.value * (first.high - first.value)) ** 2 + (first.value * (second.high - second.value)) ** 2)
    return Estimate(1 - robust, max(0.0, 1 - robust - above), min(1.0, 1 - robust + below))


def preview_of(result: ShardResult) -> Preview:
    """Return what the report of a preview says."""
    cheaply, outcomes = result.values["broken_by"], result.values["autoattack"]
    # An example that falls to any attack is broken, also where AutoAttack, by its own draws, would not break it.
    asked = [outcome for before, outcome in zip(cheaply, outcomes, strict=True) if before == "robust" and outcome]
    found = estimate(len(cheaply), cheaply.count("robust"), len(asked), len(asked) - asked.count("robust"))
    return Preview(*found, n=len(cheaply), sampled=sum(outcome is not None for outcome in outcomes))


def _passes(settings: PgdSettings) -> int:
    """Return the passes of PGD on an example: steps + 1 iterates, the best of them once more, and the gradients."""
    return settings.restarts * (2 * settings.steps + 2)


def _hashed(seed: int, example: int) -> bytes:
    return hashlib.sha256(f"preview {seed} {example}".encode()).digest()
