"""AutoAttack `standard` (Croce & Hein 2020) by its reference package, a chunk at a time, and the package's warnings.

The package's only door. It seeds the global generator, counts calls through a trace function whose counters it never
resets, and speaks through its logger. Here its warnings are recorded, and nothing of it is left behind.
"""

import importlib
import logging
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from evaluator.attacks.budget import verify
from evaluator.combine import AUTOATTACK_ORDER
from evaluator.plan import FIRST_EXAMPLES
from evaluator.protocol import AutoAttackSettings
from evaluator.types import AutoAttackVersion, ThreatModel

LOGGER = "auto-attack"
"""The name under which the package logs."""


def alias_package() -> None:
    """Let `import autoattack`, as robustbench says, find the PyPI distribution `pyautoattack`."""
    for module in ("", ".state"):
        sys.modules.setdefault("autoattack" + module, importlib.import_module("pyautoattack" + module))


def first_broken_by(
    model: nn.Module, images: Tensor, labels: Tensor, threat_model: ThreatModel, settings: AutoAttackSettings
) -> tuple[list[str], tuple[str, ...]]:
    """Attack one chunk: images [n ≤ chunk_size, c, h, w] in [0, 1], labels [n], on the model's device.

    Returns what first broke each example (`clean`, an attack's name, or `robust`) and the package's warnings.
    Equal to one call of the package on the chunk: an attack there sees the examples all earlier ones left robust.
    """
    from pyautoattack import AutoAttack

    assert settings.version is AutoAttackVersion.STANDARD, f"the package knows no AutoAttack {settings.version}"
    assert len(images) <= settings.chunk_size, f"a chunk of {len(images)} examples, {settings.chunk_size} allowed"
    with torch.no_grad():
        robust = model(images).argmax(1) == labels
    outcomes = ["robust" if still else "clean" for still in robust.tolist()]
    with recorded_warnings() as warnings:
        for name in AUTOATTACK_ORDER:
            left = [i for i, outcome in enumerate(outcomes) if outcome == "robust"]
            if not left:
                break
            adversary = AutoAttack(
                model,
                norm=threat_model.norm.value,
                eps=threat_model.epsilon,
                version=settings.version.value,
                seed=settings.seed,
                device=images.device,
            )
            adversary.verbose = False
            adversary.attacks_to_run = [name]
            adversarial, predictions = adversary.run_standard_evaluation(
                images[left], labels[left], batch_size=settings.chunk_size
            )
            verify(adversarial, images[left], threat_model)
            for i, broken in zip(left, (predictions != labels[left]).tolist(), strict=True):
                if broken:
                    outcomes[i] = name
        warn_of_square(outcomes)
    return outcomes, tuple(dict.fromkeys(warnings))


def warn_of_model(model: nn.Module, logits: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> None:
    """Let the package warn of a model that is random, gives probabilities, or differentiates inside.

    `logits` asks the model about any number of images.
    """
    from pyautoattack import checks

    logger = logging.getLogger(LOGGER)
    checks.check_randomized(logits, images, labels, logger=logger)
    checks.check_range_output(logits, images, logger=logger)
    with torch.no_grad():
        checks.check_dynamic(model, images[:FIRST_EXAMPLES], logger=logger)


def warn_of_zeros(gradient: Tensor) -> None:
    """Let the package warn of examples whose gradient is zero."""
    from pyautoattack import checks

    checks.check_zero_gradients(gradient, logger=logging.getLogger(LOGGER))


def warn_of_square(outcomes: Sequence[str]) -> None:
    """Let the package warn where Square broke examples of a chunk that gradients could not break."""
    from pyautoattack import checks

    n, robust, by_square = len(outcomes), outcomes.count("robust"), outcomes.count("square")
    accuracy = {"clean": 1.0, "fab-t": (robust + by_square) / n, "square": robust / n}
    checks.check_square_sr(accuracy, logger=logging.getLogger(LOGGER))


class _Recorder(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """Restore every global the package touches; yields the list its warnings go to."""
    from pyautoattack import checks

    messages: list[str] = []
    recorder = _Recorder(messages)
    logger = logging.getLogger(LOGGER)
    propagate, tracer, python_state, numpy_state = (
        logger.propagate,
        sys.gettrace(),
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002  # the global state is what must be restored
    )
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))
    logger.addHandler(recorder)
    logger.propagate = False
    try:
        with torch.random.fork_rng():
            yield messages
    finally:
        sys.settrace(tracer)
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002  # see above
        logger.propagate = propagate
        logger.removeHandler(recorder)
        checks.funcs.update(dict.fromkeys(checks.funcs, 0))
