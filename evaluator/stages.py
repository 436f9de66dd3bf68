"""Measure one shard: a model, a data set, a protocol and a specification in, per-example outcomes out."""

import functools
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluator.attacks import pgd
from evaluator.attacks.autoattack import first_broken_by
from evaluator.datasets import Dataset
from evaluator.devices import sent
from evaluator.exceptions import InvalidCheckpoint
from evaluator.flatness.neighborhood import displacement
from evaluator.flatness.perturbation import perturbed
from evaluator.flatness.worst_case import worst_offsets
from evaluator.metrics import StageName
from evaluator.observed import full_float32, observed
from evaluator.plan import FIRST_EXAMPLES
from evaluator.preview import TARGETS, pgd_settings, sample
from evaluator.protocol import EvaluationProtocol, PgdSettings
from evaluator.results import ShardResult, ShardSpec
from evaluator.seeding import ExampleNoise, Purpose
from evaluator.trust.findings import PROBES, VERSION
from evaluator.trust.probes import probe

DEFAULT_BATCH_SIZE = 128

Values = dict[str, list[object]]


def measure(
    model: nn.Module,
    dataset: Dataset,
    protocol: EvaluationProtocol,
    spec: ShardSpec,
    *,
    device: torch.device | str = "cpu",
    batch_size: int | None = None,
    tick: Callable[[], None] = lambda: None,
) -> ShardResult:
    """Measure the examples of `spec` on `model`, which lies on `device` and is left as it was.

    `batch_size` bounds memory and changes no number; `tick` is called between batches, and what it raises goes through.

    Raises:
        InvalidCheckpoint: the model gives a logit that is not finite, or the wrong number of logits.
    """
    device = torch.device(device)
    images, labels = (sent(tensor, device) for tensor in dataset.examples(spec.split, spec.start, spec.stop))
    _check_logits(model, images, dataset)
    size = batch_size or DEFAULT_BATCH_SIZE
    warnings: tuple[str, ...] = ()

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        stop = 0
        while stop < len(images):
            tick()
            start, stop = stop, stop + size
            if len(images) - stop < min(size, FIRST_EXAMPLES):  # too few for a batch whose bits are any other's
                stop = len(images)
            yield images[start:stop], labels[start:stop]

    def attacked(settings: PgdSettings, purpose: Purpose, first_repetition: int) -> Values:
        noise = [
            ExampleNoise(protocol.seed, purpose, spec.split, range(spec.start, spec.stop), first_repetition + restart)
            for restart in range(settings.restarts)
        ]
        found = pgd.attack(
            model, images, labels, threat_model=protocol.threat_model, settings=settings, noise=noise, batch_size=size,
            tick=tick,
        )  # fmt: skip
        finite = found.loss.isfinite().all(1)
        if not finite.all():
            example = spec.start + int(finite.int().argmin())
            raise InvalidCheckpoint(
                f"the loss of {spec.split} example {example} under attack is not finite: "
                "the model's logits overflow or are NaN inside the budget"
            )
        return {
            "loss": found.loss.tolist(),
            "wrong_class_confidence": found.wrong_class_confidence.tolist(),
            "correct": found.correct.tolist(),
        }

    started = time.perf_counter()
    with full_float32(), observed(model) as counter:
        match spec.stage:
            case StageName.CLEAN:
                values = _clean(model, batches())
            case StageName.TRUST:
                probes = probe(model, images, labels, protocol=protocol, batch_size=size, tick=tick)
                values = {name: [probes[name]] if name in probes else [] for name in PROBES}
            case StageName.ROBUST_LOSS:
                values = attacked(protocol.robust_loss, Purpose.ROBUST_LOSS_START, 0)
            case StageName.FLATNESS | StageName.LANDSCAPE:
                assert spec.weight_sample is not None, f"{spec} names no weight sample"
                place, attack = protocol.places(spec.stage)[spec.weight_sample], protocol.flatness.attack
                with perturbed(
                    model, displacement(model, place.position, seed=protocol.seed, direction=place.direction)
                ):
                    values = attacked(attack, Purpose.FLATNESS_START, place.direction * attack.restarts)
            case StageName.WORST_CASE:
                settings, restart, attack = protocol.worst_case, spec.weight_sample, protocol.flatness.attack
                assert settings is not None, f"{protocol.label} has no settings of {spec}"
                assert restart is not None, f"{spec} names no restart"
                noise = ExampleNoise(
                    protocol.seed, Purpose.WORST_CASE_START, spec.split, range(spec.start, spec.stop), restart
                )
                start = pgd.initial_perturbation(images.shape, attack.initialization, protocol.threat_model, noise)
                offsets = worst_offsets(
                    model, images, labels, images + sent(start, device), threat_model=protocol.threat_model,
                    input_step=attack.step_size, settings=settings, seed=protocol.seed, restart=restart,
                    batch_size=size, tick=tick,
                )  # fmt: skip
                with perturbed(model, offsets):
                    values = attacked(attack, Purpose.FLATNESS_START, restart * attack.restarts)
            case StageName.AUTOATTACK:
                outcomes, warnings = first_broken_by(
                    model, images, labels, threat_model=protocol.threat_model, settings=protocol.autoattack,
                    batch_size=size, tick=tick,
                )  # fmt: skip
                values = {"broken_by": list(outcomes)}
            case StageName.PREVIEW:
                by_pgd = attacked(pgd_settings(protocol), Purpose.ROBUST_LOSS_START, 0)
                values = _previewed(model, images, labels, protocol, by_pgd["correct"], size, tick)
    return ShardResult(
        spec=spec,
        values=values,
        passes=counter.passes,
        seconds=time.perf_counter() - started,
        device=device_name(device),
        versions=library_versions(),
        warnings=warnings,
    )


def device_name(device: torch.device | str) -> str:
    """Return what people call the device: the GPU's product name, or the processor's architecture."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()})"


@functools.cache
def library_versions() -> dict[str, str]:
    """Return the versions of everything that can change a number; looked up once a process, not once a shard."""
    return {"python": platform.python_version(), "trust-checks": str(VERSION)} | {
        name: version(name) for name in ("torch", "numpy", "scipy", "pyautoattack", "robust-leaderboard")
    }


def _clean(model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> Values:
    values: Values = {"loss": [], "prediction": [], "label": []}
    with torch.no_grad():
        for images, labels in batches:
            logits = model(images)
            values["loss"] += F.cross_entropy(logits, labels, reduction="none").tolist()
            values["prediction"] += logits.argmax(1).tolist()
            values["label"] += labels.tolist()
    return values


def _previewed(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    protocol: EvaluationProtocol,
    withstood_pgd: list[Any],
    batch_size: int,
    tick: Callable[[], None],
) -> Values:
    """Attack every example by APGD-T towards few targets, after PGD, and the sample by all of AutoAttack."""
    attack = functools.partial(
        first_broken_by, model, threat_model=protocol.threat_model, settings=protocol.autoattack,
        batch_size=batch_size, tick=tick,
    )  # fmt: skip
    by_apgd, _ = attack(images, labels, attacks=("apgd-t",), targets=TARGETS)
    cheaply = [
        "pgd" if outcome != "clean" and not all(correct) else outcome
        for outcome, correct in zip(by_apgd, withstood_pgd, strict=True)
    ]
    drawn = sample(protocol)
    of_sample, _ = attack(images[drawn], labels[drawn])  # in chunks of its own, so its draws are not the standard's
    outcomes: list[object] = [None] * len(images)
    for example, outcome in zip(drawn, of_sample, strict=True):
        outcomes[example] = outcome
    return {"broken_by": list(cheaply), "autoattack": outcomes}


def _check_logits(model: nn.Module, images: Tensor, dataset: Dataset) -> None:
    with observed(model), torch.no_grad():
        logits = model(images[:4])
    expected = (len(images[:4]), dataset.facts.classes)
    if logits.shape != expected:
        raise InvalidCheckpoint(
            f"the model returns logits of shape {tuple(logits.shape)} for {expected[0]} images, "
            f"expected {expected}: {dataset.facts.name} has {dataset.facts.classes} classes"
        )
    if not torch.isfinite(logits).all():
        raise InvalidCheckpoint("the model returns logits that are not finite (NaN or infinity) on clean images")
