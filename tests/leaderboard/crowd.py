"""Many made entries at once, written straight to the tables: for whatever depends on how many there are."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any
from uuid import UUID

import numpy as np

from evaluator.combine import BROKEN_BY
from evaluator.manifest import Manifest
from evaluator.metrics import METRICS, StageName, Unit
from evaluator.protocol import EvaluationProtocol, to_json
from evaluator.types import Split
from leaderboard.models import Entry, Measurement, State, Submission
from trainers.recipe import load_recipe

ARCHITECTURES = ("digits-cnn", "digits-resnet")
RECIPES = ("digits/at", "digits/trades", "digits/unlabeled", None)
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def publish(count: int, protocol: EvaluationProtocol, *, seed: int = 0) -> None:
    """Publish `count` entries whose robust loss goes with flatness, most of them close together, some with warnings."""
    generator = np.random.default_rng(seed)
    quality = generator.beta(4, 3, count)
    n = protocol.autoattack_examples.test
    submissions = Submission.objects.bulk_create(_submission(number, protocol, seed=seed) for number in range(count))
    entries = Entry.objects.bulk_create(
        Entry(
            submission=submission,
            run_id=submission.run_id,
            rankable=protocol.rankable,
            seed=protocol.seed,
            versions={"torch": ["2.13.0"]},
            stages=[_stage(stage, split, number) for stage in StageName for split in Split],
            seconds=60 + 600 * generator.random(),
            robust_on_test="".join("01"[bit] for bit in (generator.random(n) < quality[number] * 0.6).astype(int)),
        )
        for number, submission in enumerate(submissions)
    )
    measured = (_measurements(entry, protocol, of, generator) for entry, of in zip(entries, quality, strict=True))
    Measurement.objects.bulk_create(chain.from_iterable(measured), batch_size=5000)


def trained(
    recipe_name: str, protocol: EvaluationProtocol, *, epoch: int, value: float = 0.3, seed: int = 0, **changes: Any
) -> Submission:
    """Publish a reference after some epoch of a recipe's training, each of whose numbers is `value`, ± 0.01 of 100."""
    recipe = load_recipe(recipe_name)
    notes = {"recipe_digest": recipe.digest, "seed": str(seed), "epoch": f"{epoch} of {recipe.epochs}"}
    manifest = Manifest(architecture="digits-cnn", dataset="digits", recipe=recipe_name, notes=notes)
    number = Submission.objects.count()
    submission = _submission(number, protocol, seed=99)
    fields = {"title": recipe.label(seed), "manifest": json.loads(manifest.to_json()), "is_reference": True} | changes
    for name, content in fields.items():
        setattr(submission, name, content)
    submission.save()
    entry = Entry.objects.create(
        submission=submission, run_id=submission.run_id, rankable=protocol.rankable, seed=0, versions={}, stages=[],
        seconds=1.0, robust_on_test="01" * (protocol.autoattack_examples.test // 2),
    )  # fmt: skip
    ends = {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 100}
    Measurement.objects.bulk_create(
        Measurement(entry=entry, metric=metric.key, split=split, **ends)
        for metric in METRICS.values()
        for name, split in zip(metric.columns(), Split if metric.per_split else ("",), strict=True)
        if name in protocol.columns()
    )
    return submission


def _submission(number: int, protocol: EvaluationProtocol, *, seed: int) -> Submission:
    name = f"{seed}-{number:05d}"
    manifest = Manifest(
        architecture=ARCHITECTURES[number % 2], dataset="digits", recipe=RECIPES[number % 4], notes={"seed": str(seed)}
    )
    return Submission(
        run_id=UUID(int=(seed << 32) + number),
        title=f"{('AT', 'TRADES', 'AT with unlabeled images', 'Handed in')[number % 4]} {name}",
        slug=f"entry-{name}",
        is_reference=manifest.recipe is not None,
        checkpoint_sha256=hashlib.sha256(str(number).encode()).hexdigest(),
        manifest=json.loads(manifest.to_json()),
        stored_numbers=11_000 + number,
        protocol_name=protocol.name,
        protocol_version=protocol.version,
        protocol_digest=protocol.digest,
        protocol=json.loads(to_json(protocol)),
        state=State.PUBLISHED,
        published_at=_FIRST + timedelta(hours=number),
    )


def _stage(stage: StageName, split: Split, number: int) -> dict[str, object]:
    attacks = stage is StageName.AUTOATTACK
    return {
        "stage": stage, "split": split, "shards": 4, "passes": {"forward": 100_000, "backward": 90_000},
        "seconds": 12.5, "devices": ["cpu"], "outcomes": dict.fromkeys(BROKEN_BY, 10) if attacks else {},
        "warnings": ["AutoAttack saw zero gradients"] if attacks and number % 50 == 7 else [],
    }  # fmt: skip


def _measurements(
    entry: Entry, protocol: EvaluationProtocol, quality: float, generator: np.random.Generator
) -> list[Measurement]:
    n, robust = len(entry.robust_on_test), entry.robust_on_test.count("1")
    made = []
    for metric in METRICS.values():
        for name, split in zip(metric.columns(), Split if metric.per_split else ("",), strict=True):
            if name not in protocol.columns():
                continue
            scale, half = (0.3, 0.03) if metric.unit is Unit.FRACTION else (2.0, 0.1)
            value = scale * (1 - quality) * (0.9 + 0.2 * generator.random())
            if name == "robust_error_test":
                value = 1 - robust / n
            made.append(
                Measurement(
                    entry=entry, metric=metric.key, split=split, value=value, low=value - half, high=value + half, n=n
                )
            )
    return made
