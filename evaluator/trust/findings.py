"""The trust checks: what each looks at, what is expected and why, and what it finds (torch-free).

A check sees one number of a run. Inside `expected` it passes; outside `tolerated` it fails, and between them it warns.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import inf

from pydantic import ConfigDict, with_config

VERSION = 1
"""Of checks and thresholds: a change of either is a new version with a line in the changelog."""

EXAMPLES = 64
"""On how many of the first test images a model is probed, at most."""

LARGEST = 1e9
"""No probe says more, whatever the model does."""

Range = tuple[float, float]


class Verdict(StrEnum):
    """What a finding means for an entry: nothing, a flag on the board, or no rank."""

    PASS = "pass"  # noqa: S105  # a verdict, not a password
    WARN = "warn"
    FAIL = "fail"


class Source(StrEnum):
    """Where a check's number comes from."""

    PROBE = "probe"
    OUTCOMES = "outcomes"
    CLAIM = "claim"


@with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
@dataclass(frozen=True)
class Finding:
    """What one check saw of a run. `threshold` is the one that decided: the one crossed, or the nearest one kept."""

    check: str
    seen: float
    threshold: float
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class Check:
    """One check: what it looks at, what is expected and tolerated (with the ends), and why it matters.

    `honest` is the range seen of honest networks and `cheaters` what was seen of those built to be caught.
    """

    key: str
    title: str
    source: Source
    sentence: str
    """What was seen; `{seen}` stands for the number."""
    form: str
    """How the number is written, as Python's format does."""
    expected: Range
    tolerated: Range
    reason: str
    honest: Range
    cheaters: tuple[float, ...]

    def judge(self, seen: float) -> Finding:
        """Return what the check makes of the number it saw."""
        if not _inside(seen, self.tolerated):
            verdict, crossed = Verdict.FAIL, self.tolerated
        elif not _inside(seen, self.expected):
            verdict, crossed = Verdict.WARN, self.expected
        else:
            verdict, crossed = Verdict.PASS, self.expected
        threshold = min((end for end in crossed if abs(end) != inf), key=lambda end: abs(end - seen))
        sentence = f"{self.sentence.format(seen=format(seen, self.form))}; expected {self.words(self.expected)}"
        if verdict is not Verdict.PASS:
            sentence += f", since {self.reason}"
        return Finding(self.key, seen, threshold, verdict, sentence + ".")

    def words(self, limits: Range) -> str:
        """Return a range as people say it; `any` where it ends nowhere."""
        low, high = limits
        ends = [format(end, self.form) for end in limits]
        if limits == (-inf, inf):
            return "any"
        if low == -inf:
            return f"at most {ends[1]}"
        return f"at least {ends[0]}" if high == inf else f"{ends[0]} to {ends[1]}"


def _inside(seen: float, limits: Range) -> bool:
    return limits[0] <= seen <= limits[1]


_ANY = (-inf, inf)

_ALL = (
    Check(
        "randomness", "Random answers", Source.PROBE,
        "the same images twice gave logits that differ by {seen} of their scale", ".2g",
        expected=(-inf, 1e-5), tolerated=(-inf, 1e-3),
        reason="attacks cannot follow a network that answers at random, and a robust error is then luck",
        honest=(0, 0), cheaters=(0.14, 0.4),
    ),
    Check(
        "batch_dependence", "Dependence on the batch", Source.PROBE,
        "images alone or in other company got logits that differ by {seen} of their scale", ".2g",
        expected=(-inf, 1e-4), tolerated=(-inf, 1e-2),
        reason="a classifier answers for one image, and not for its batch",
        honest=(0, 1.7e-6), cheaters=(4.8,),
    ),
    Check(
        "state", "Memory between batches", Source.PROBE,
        "the same images after others, with the same seed, gave logits that differ by {seen} of their scale", ".2g",
        expected=(-inf, 1e-5), tolerated=(-inf, 1e-3),
        reason="a network that remembers can notice that it is under attack",
        honest=(0, 0), cheaters=(1.1, 6.9),
    ),
    Check(
        "not_finite", "Logits that are not finite", Source.PROBE,
        "{seen} of all images tried gave logits that are not finite", ".1%",
        expected=(-inf, 0), tolerated=(-inf, 0),
        reason="an attack ends where there is no number",
        honest=(0, 0), cheaters=(0.19,),
    ),
    Check(
        "probabilities", "Probabilities instead of logits", Source.PROBE,
        "the outputs are {seen} from being probabilities (not negative, with one sum)", ".2g",
        expected=(0.01, inf), tolerated=(0.001, inf),
        reason="a softmax of probabilities bounds the loss and hides its gradient",
        honest=(1.2, 4.1), cheaters=(2.5e-7, 2.4e-7),
    ),
    Check(
        "log_probabilities", "Log-probabilities instead of logits", Source.PROBE,
        "the outputs are {seen} from being logarithms of probabilities", ".2g",
        expected=(0.01, inf), tolerated=_ANY,
        reason="logits were asked for; no number changes by it",
        honest=(3.4, 40), cheaters=(7.3e-8,),
    ),
    Check(
        "temperature", "Scale of the logits", Source.PROBE,
        "the clean loss is smallest when the logits are divided by {seen}", ".3g",
        expected=(0.03, 30), tolerated=(0.004, 250),
        reason="robust loss and flatness change with the scale of the logits, although no decision does",
        honest=(0.18, 8.4), cheaters=(0.0012, 12000),
    ),
    Check(
        "zero_gradients", "Zero gradients", Source.PROBE,
        "the gradient of the loss is zero everywhere for {seen} of the images", ".0%",
        expected=(-inf, 0.05), tolerated=(-inf, 0.5),
        reason="attacks by gradients stand still there",
        honest=(0, 0), cheaters=(0.84, 1, 1, 1),
    ),
    Check(
        "tiny_gradients", "Tiny gradients", Source.PROBE,
        "the gradient of the loss is below 1e-12 everywhere for {seen} of the images", ".0%",
        expected=(-inf, 0.5), tolerated=_ANY,
        reason="gradients this small get lost in rounding",
        honest=(0, 0.08), cheaters=(0.84, 1, 1),
    ),
    Check(
        "gradient_along", "Gradient against finite differences, along the gradient", Source.PROBE,
        "along the gradient the margin changes {seen} times as fast as the gradient says (median)", ".3g",
        expected=(0.8, 1.25), tolerated=(0.5, 2),
        reason="attacks follow the gradient, and this one is not the function's",
        honest=(0.99, 1.01), cheaters=(-1, 0, 0, 0, 0.14, 0.31),
    ),
    Check(
        "gradient_across", "Gradient against finite differences, in random directions", Source.PROBE,
        "in random directions the margin changes {seen} times as fast as the gradient says (median)", ".3g",
        expected=(0.5, 2), tolerated=(0.2, 5),
        reason="the function moves where its gradient shows nothing, so attacks do not see it",
        honest=(0.76, 1.12), cheaters=(0, 0.18, 1e9),
    ),
    Check(
        "huge_budget", "An attack without bounds", Source.PROBE,
        "PGD that may change images at will breaks {seen} of them", ".0%",
        expected=(0.95, inf), tolerated=(0.8, inf),
        reason="every classifier falls to it, unless its gradients mislead",
        honest=(1, 1), cheaters=(0, 0.094, 0.094, 0.094, 0.11, 0.55, 0.72),
    ),
    Check(
        "one_step", "One step against twenty", Source.PROBE,
        "one large step raises the loss {seen} times as much as twenty steps of PGD", ".3g",
        expected=(-inf, 1.05), tolerated=(-inf, 1.5),
        reason="more steps are stronger where gradients lead anywhere",
        honest=(0.14, 0.9), cheaters=(20,),
    ),
    Check(
        "chance", "Random points against PGD", Source.PROBE,
        "the best of twenty random points raises the loss {seen} times as much as twenty steps of PGD", ".2g",
        expected=(-inf, 0.7), tolerated=(-inf, 1),
        reason="gradients that lead anywhere beat chance",
        honest=(0.02, 0.26), cheaters=(1.5, 8.2, 1e9, 1e9, 1e9),
    ),
    Check(
        "rescaled_copy", "Other weights, same function", Source.PROBE,
        "a copy with scaled convolutions, undone by BatchNorm, has logits that differ by {seen} of their scale", ".2g",
        expected=(-inf, 1e-4), tolerated=_ANY,
        reason="loss and flatness of the same function must be the same",
        honest=(0, 2.4e-6), cheaters=(2,),
    ),
    Check(
        "restarts", "Broken by later restarts alone", Source.OUTCOMES,
        "{seen} of the test images withstand PGD's first restart and fall to another", ".1%",
        expected=(-inf, 0.1), tolerated=(-inf, 0.3),
        reason="an attack that depends on where it starts has no gradient to follow, and more restarts would find more",
        honest=(0, 0.038), cheaters=(0.12,),
    ),
    Check(
        "square", "Square beats the gradients", Source.OUTCOMES,
        "Square, which needs no gradient, is the first to break at least {seen} of the test images (lower end of the "
        "95 % interval)", ".1%",
        expected=(-inf, 0.01), tolerated=(-inf, 0.05),
        reason="the attacks before it see more of the network, and fall behind only where its gradients mislead",
        honest=(0, 0.0035), cheaters=(0.3,),
    ),
    Check(
        "autoattack_behind_pgd", "PGD beats AutoAttack", Source.OUTCOMES,
        "{seen} of the test images withstand AutoAttack and fall to PGD", ".1%",
        expected=(-inf, 0.05), tolerated=(-inf, 0.15),
        reason="AutoAttack is the stronger one, unless the network treats it differently",
        honest=(0, 0.013), cheaters=(0.83,),
    ),
    Check(
        "memorisation", "Better on test than on train", Source.OUTCOMES,
        "test error minus train error, clean or robust, is at most {seen} (upper end of the 95 % interval)", ".1%",
        expected=(-0.02, inf), tolerated=(-0.1, inf),
        reason="only a network that has seen the test images does so much better on them",
        honest=(0.054, 0.5), cheaters=(-0.8,),
    ),
    Check(
        "stages_agree", "Different answers in different stages", Source.OUTCOMES,
        "stages that saw the same images differ by {seen} in loss or in the share that is wrong", ".2g",
        expected=(-inf, 0.005), tolerated=(-inf, 0.05),
        reason="a network must answer every stage alike",
        honest=(0, 1e-4), cheaters=(8.9,),
    ),
    Check(
        "claim", "Clean error against the claim", Source.CLAIM,
        "the clean error claimed lies {seen} outside the 95 % interval of the one measured", ".1%",
        expected=(-inf, 0.02), tolerated=(-inf, 0.1),
        reason="this may not be the network that was meant, or not its preprocessing",
        honest=(0, 0), cheaters=(0.73,),
    ),
)  # fmt: skip  # a check a paragraph reads better than an argument a line

CHECKS: dict[str, Check] = {check.key: check for check in _ALL}
"""Every check by its name."""

PROBES: tuple[str, ...] = (*(check.key for check in _ALL if check.source is Source.PROBE), "clean_loss")
"""What is measured on the model: a number for each check by probes, and the mean clean loss of the images."""

OPTIONAL = frozenset({"rescaled_copy"})
"""Probes that some networks do not have."""
