"""What must hold between the values of any honest report, whatever the network (torch-free).

A network's logits of K classes give each example the probabilities p; its loss is −ln p_y of the label y. A report
holds rounded float32 numbers, so each statement has its tolerance. None depends on what was measured elsewhere but
`check_labels` and `check_starts`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from evaluator.audits import AUDITED
from evaluator.combine import VALUES
from evaluator.dataset_facts import find_dataset_facts
from evaluator.exceptions import InvalidResult
from evaluator.metrics import StageName
from evaluator.preview import TARGETS, pgd_settings, plan_preview, sample
from evaluator.protocol import EvaluationProtocol
from evaluator.results import PassCounts, ShardResult

_TOLERANCE = 1e-4
"""Of a probability or a loss below a few nats: float32 softmax and cross-entropy of one row err by less than 1e-5."""

_APGD_RUNS, _APGD_STEPS = 10, 100
"""What APGD of AutoAttack `standard` spends on an example that it does not break: untargeted, and at nine targets."""

Array = npt.NDArray[np.float64]


class _Law(NamedTuple):
    """What breaks a statement, as a mask over the values, and the statement."""

    broken: npt.NDArray[np.bool_]
    statement: str


def check_values(protocol: EvaluationProtocol, result: ShardResult) -> None:
    """Check a report that has passed `combine.check`.

    Raises:
        InvalidResult: its values contradict each other, or it took fewer passes than it can.
    """
    spec = result.spec
    if spec.stage is StageName.PREVIEW:
        _check_preview(protocol, result)
    elif spec.stage not in AUDITED:
        return
    classes = find_dataset_facts(protocol.dataset).classes
    if protocol.attack(spec.stage):
        _refuse(result, _laws_under_attack(*_columns(result), classes))
    if spec.stage is StageName.CLEAN:
        _refuse(result, _laws_of_clean(*_columns(result), classes))
    least = least_passes(protocol, result)
    if result.passes.forward < least.forward or result.passes.backward < least.backward:
        raise InvalidResult(
            f"{spec} reports {result.passes.forward} examples forward and {result.passes.backward} backward, but its "
            f"outcomes take at least {least.forward} and {least.backward}; measure it again"
        )


def least_passes(protocol: EvaluationProtocol, result: ShardResult) -> PassCounts:
    """Return how many passes the outcomes of a report take at least."""
    spec = result.spec
    n = len(spec)
    if attack := protocol.attack(spec.stage):
        # of steps + 1 iterates the last one needs no gradient
        return PassCounts(n * attack.restarts * (attack.steps + 1), n * attack.restarts * attack.steps)
    if spec.stage is StageName.AUTOATTACK:
        robust = result.values["broken_by"].count("robust")
        # of APGD's steps + 1 iterates the last one needs no gradient; FAB and Square take more
        return PassCounts(n + robust * _APGD_RUNS * (_APGD_STEPS + 1), robust * _APGD_RUNS * _APGD_STEPS)
    if spec.stage is StageName.PREVIEW:
        quick = pgd_settings(protocol)
        withstood, robust = (result.values[name].count("robust") for name in ("broken_by", "autoattack"))
        ascents = withstood * TARGETS + robust * _APGD_RUNS
        return PassCounts(n * (quick.steps + 1) + ascents * (_APGD_STEPS + 1), n * quick.steps + ascents * _APGD_STEPS)
    return PassCounts(n, 0)


def check_labels(result: ShardResult, known: Mapping[int, int]) -> None:
    """Check the labels of a clean report against those that other runs found, by example.

    Raises:
        InvalidResult: an example has another label.
    """
    for example, label in enumerate(result.values["label"], start=result.spec.start):
        if known.get(example, label) != label:
            raise InvalidResult(
                f"{result.spec} gives example {example} the label {label}, but complete runs on the same data set "
                f"have {known[example]}; look whether all workers have the same files"
            )


def check_starts(attacked: ShardResult, clean: Sequence[ShardResult]) -> None:
    """Check that AutoAttack calls no example wrong without an attack that is right beyond rounding.

    Where p_y is above one half, no other class can reach it on any device.

    Raises:
        InvalidResult: it calls one so.
    """
    spec = attacked.spec
    right = {
        example
        for result in clean
        if result.spec.split is spec.split
        for example, loss in enumerate(result.values["loss"], start=result.spec.start)
        if loss < math.log(2) - _TOLERANCE
    }
    for example, outcome in enumerate(attacked.values["broken_by"], start=spec.start):
        if outcome == "clean" and example in right:
            raise InvalidResult(
                f"{spec} reports example {example} as misclassified without an attack, but its label has more than "
                "half of the probability there; measure both again"
            )


def _check_preview(protocol: EvaluationProtocol, result: ShardResult) -> None:
    """Check that AutoAttack attacked the sample and nothing else, and found what is wrong without an attack as well."""
    spec, drawn = result.spec, set(sample(protocol))
    if (spec,) != plan_preview(protocol):
        raise InvalidResult(f"{spec} is no preview of {protocol.label}, which is never cut; measure all of it")
    columns = zip(result.values["broken_by"], result.values["autoattack"], strict=True)
    for example, (cheaply, outcome) in enumerate(columns, start=spec.start):
        if (outcome is not None) != (example in drawn):
            raise InvalidResult(
                f"{spec} reports {outcome!r} as AutoAttack's outcome of example {example}, which is "
                f"{'one' if example in drawn else 'none'} of the sample; measure the sample, and nothing else"
            )
        if outcome is not None and (cheaply == "clean") != (outcome == "clean"):
            raise InvalidResult(
                f"{spec} reports example {example} as broken by {cheaply!r} and, of AutoAttack, by {outcome!r}, but it "
                "is wrong without an attack or it is not; measure it again"
            )


def _columns(result: ShardResult) -> tuple[Array, Array, Array]:
    loss, second, third = (np.asarray(result.values[name], np.float64) for name in VALUES[result.spec.stage])
    return loss, second, third


def _laws_of_clean(loss: Array, prediction: Array, label: Array, classes: int) -> list[_Law]:
    right = prediction == label
    ranged = [
        _Law((column != np.floor(column)) | (column >= classes), f"a {name} is one of the {classes} classes")
        for name, column in (("prediction", prediction), ("label", label))
    ]
    return [
        *ranged,
        # another class has at least p_y, and both together at most 1
        _Law(~right & (loss < math.log(2) - _TOLERANCE), "a wrong prediction has a loss of ln 2 or more"),
        # no class has more than p_y, and all K together 1
        _Law(right & (loss > math.log(classes) + _TOLERANCE), f"a right one has a loss of ln {classes} or less"),
    ]


def _laws_under_attack(loss: Array, confidence: Array, correct: Array, classes: int) -> list[_Law]:
    right, probability = correct == 1, np.exp(-loss)
    rest = 1 - probability
    return [
        _Law(~right & (correct != 0), "correct is 0 or 1"),
        # the likeliest wrong class has its share of what the label leaves: a (K − 1)-th at least, all of it at most
        _Law(confidence > rest + _TOLERANCE, "a wrong class has no more probability than exp(-loss) leaves"),
        _Law(confidence < rest / (classes - 1) - _TOLERANCE, "the likeliest wrong class has a fair share of the rest"),
        # right means that no class is likelier than the label; with the line above, loss ≤ ln K
        _Law(right & (confidence > probability + _TOLERANCE), "where it is right, no wrong class is likelier"),
        # wrong means that one is as likely at least; with the first line, loss ≥ ln 2
        _Law(~right & (confidence < probability - _TOLERANCE), "where it is wrong, a wrong class is as likely"),
    ]


def _refuse(result: ShardResult, laws: Sequence[_Law]) -> None:
    for law in laws:
        if law.broken.any():
            example = result.spec.start + int(np.argwhere(law.broken)[0][0])
            values = {name: values[example - result.spec.start] for name, values in result.values.items()}
            raise InvalidResult(
                f"{result.spec} reports {str(values)[:200]} of example {example}, but {law.statement}; measure it again"
            )
