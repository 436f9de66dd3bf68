"""The protocols that come with the instrument, by name and version (torch-free)."""

from dataclasses import replace

from evaluator.exceptions import InvalidRequest
from evaluator.protocol import (
    NO_EXAMPLES,
    AutoAttackSettings,
    EvaluationProtocol,
    Examples,
    FlatnessSettings,
    Initialization,
    LandscapeSettings,
    PgdSettings,
    Selection,
    WorstCaseSettings,
)
from evaluator.types import Neighborhood, Norm, ThreatModel


def _flatness(pgd: PgdSettings, *, xi: float = 0.5, samples: int = 10) -> FlatnessSettings:
    """Return average-case flatness in a ball of radius `xi`, attacked as the robust loss is but from one start."""
    return FlatnessSettings(Neighborhood(xi), samples=samples, attack=replace(pgd, restarts=1))


_cifar_pgd = PgdSettings(steps=20, step_size=0.007, restarts=10)

CIFAR10_LINF = EvaluationProtocol(
    name="cifar10-linf",
    version=1,
    dataset="cifar10",
    threat_model=ThreatModel(Norm.LINF, 8 / 255),
    seed=0,
    clean_examples=Examples(test=10_000, train=50_000),
    robust_loss=_cifar_pgd,
    robust_loss_examples=Examples(test=1000, train=1000),
    autoattack=AutoAttackSettings(chunk_size=250),
    autoattack_examples=Examples(test=1000, train=1000),
    flatness=_flatness(_cifar_pgd),
    flatness_examples=Examples(test=1000, train=1000),
)

CIFAR100_LINF = replace(CIFAR10_LINF, name="cifar100-linf", dataset="cifar100")

SVHN_LINF = replace(CIFAR10_LINF, name="svhn-linf", dataset="svhn", clean_examples=Examples(test=26_032, train=73_257))

_l2_pgd = replace(_cifar_pgd, step_size=0.1)

CIFAR10_L2 = replace(
    CIFAR10_LINF,
    name="cifar10-l2",
    threat_model=ThreatModel(Norm.L2, 0.5),
    robust_loss=_l2_pgd,
    flatness=_flatness(_l2_pgd),
)

_paper_pgd = replace(_cifar_pgd, initialization=Initialization.NORM_UNIFORM, selection=Selection.WRONG_CLASS_CONFIDENCE)

STUTZ2021_CIFAR10 = replace(
    CIFAR10_LINF,
    name="stutz2021-cifar10",
    threat_model=ThreatModel(Norm.LINF, 0.0314),
    robust_loss=_paper_pgd,
    flatness=_flatness(_paper_pgd),
)

# Snapshots on the way and early-stopped ones need a part of the numbers only. What is left is defined as in the full
# protocol: an early-stopped error is compared with the final one, and a curve ends near the final numbers.


def _curve_of(full: EvaluationProtocol, name: str, examples: Examples) -> EvaluationProtocol:
    """Return the part of `full` that follows a training: robust loss by 3 restarts, and flatness, on `examples`."""
    return replace(
        full,
        name=name,
        robust_loss=replace(full.robust_loss, restarts=3),
        robust_loss_examples=examples,
        autoattack_examples=NO_EXAMPLES,
        flatness_examples=examples,
        rankable=False,
    )


def _stopped_of(full: EvaluationProtocol, name: str) -> EvaluationProtocol:
    """Return the part of `full` that early-stopped networks need: clean, and AutoAttack on the same test examples."""
    return replace(
        full,
        name=name,
        robust_loss_examples=NO_EXAMPLES,
        autoattack_examples=replace(full.autoattack_examples, train=0),
        flatness_examples=NO_EXAMPLES,
        rankable=False,
    )


_RADII = (0.1, 0.25, 0.5, 0.75, 1.0)


def _shape_of(full: EvaluationProtocol, name: str, examples: Examples) -> EvaluationProtocol:
    """Return what shows the shape of a minimum: robust loss, landscape to both sides, worst case, on `examples`."""
    positions = (*(-radius for radius in reversed(_RADII)), 0.0, *_RADII)
    return replace(
        full,
        name=name,
        robust_loss_examples=examples,
        autoattack_examples=NO_EXAMPLES,
        flatness_examples=NO_EXAMPLES,
        rankable=False,
        landscape=LandscapeSettings(positions, examples),
        worst_case=WorstCaseSettings(xi=0.003, steps=20, step_size=0.25, restarts=10, examples=examples),
    )


CIFAR10_SHAPE = _shape_of(CIFAR10_LINF, "cifar10-shape", Examples(test=500, train=500))

STUTZ2021_CURVE = _curve_of(STUTZ2021_CIFAR10, "stutz2021-curve", Examples(test=500, train=500))

STUTZ2021_STOPPED = _stopped_of(STUTZ2021_CIFAR10, "stutz2021-stopped")

# Radius, budget and counts of digits: docs/decisions/0005-digits-protocol.md holds the measurements behind them.
_digits_pgd = PgdSettings(steps=20, step_size=0.03, restarts=10)

DIGITS_LINF = EvaluationProtocol(
    name="digits-linf",
    version=1,
    dataset="digits",
    threat_model=ThreatModel(Norm.LINF, 0.15),
    seed=0,
    clean_examples=Examples(test=1000, train=400),
    robust_loss=_digits_pgd,
    robust_loss_examples=Examples(test=1000, train=400),
    autoattack=AutoAttackSettings(chunk_size=200),
    autoattack_examples=Examples(test=1000, train=400),
    flatness=_flatness(_digits_pgd),
    flatness_examples=Examples(test=1000, train=400),
)

DIGITS_DEMO = replace(
    DIGITS_LINF,
    name="digits-demo",
    robust_loss_examples=Examples(test=400, train=100),
    autoattack_examples=Examples(test=160, train=20),
    flatness_examples=Examples(test=400, train=100),
)

DIGITS_CURVE = _curve_of(DIGITS_DEMO, "digits-curve", Examples(test=200, train=100))

DIGITS_STOPPED = _stopped_of(DIGITS_DEMO, "digits-stopped")

DIGITS_SHAPE = _shape_of(DIGITS_DEMO, "digits-shape", Examples(test=80, train=40))

_smoke_pgd = PgdSettings(steps=3, step_size=0.06, restarts=2)

SMOKE = replace(
    DIGITS_LINF,
    name="smoke",
    clean_examples=Examples(test=24, train=16),
    robust_loss=_smoke_pgd,
    robust_loss_examples=Examples(test=12, train=8),
    autoattack=AutoAttackSettings(chunk_size=4),
    autoattack_examples=Examples(test=4, train=4),
    flatness=_flatness(_smoke_pgd, xi=0.25, samples=2),
    flatness_examples=Examples(test=12, train=8),
    rankable=False,
)

_SHIPPED = (
    DIGITS_LINF,
    DIGITS_DEMO,
    DIGITS_CURVE,
    DIGITS_STOPPED,
    DIGITS_SHAPE,
    CIFAR10_LINF,
    CIFAR10_L2,
    CIFAR100_LINF,
    SVHN_LINF,
    CIFAR10_SHAPE,
    STUTZ2021_CIFAR10,
    STUTZ2021_CURVE,
    STUTZ2021_STOPPED,
    SMOKE,
)
PROTOCOLS: dict[str, tuple[EvaluationProtocol, ...]] = {
    name: tuple(one for one in _SHIPPED if one.name == name) for name in dict.fromkeys(one.name for one in _SHIPPED)
}
"""Every shipped protocol by name, oldest version first."""


def find_protocol(name: str, version: int | None = None) -> EvaluationProtocol:
    """Return the named protocol, its newest version unless one is asked for.

    Raises:
        InvalidRequest: no such name or version; the message lists what there is.
    """
    versions = PROTOCOLS.get(name)
    if versions is None:
        raise InvalidRequest(f"no protocol is called {name!r}; there are {', '.join(PROTOCOLS)}")
    if version is None:
        return versions[-1]
    for protocol in versions:
        if protocol.version == version:
            return protocol
    raise InvalidRequest(
        f"protocol {name} has no version {version}; it has {', '.join(str(p.version) for p in versions)}"
    )
