"""Made entries that went through the real services: a checkpoint file in, forged shard reports, numbers out."""

from pathlib import Path

import numpy as np
import safetensors.numpy

from evaluator.combine import BROKEN_BY
from evaluator.manifest import METADATA_KEY, Manifest
from evaluator.metrics import StageName
from evaluator.preview import sample
from evaluator.protocol import EvaluationProtocol
from evaluator.results import PassCounts, ShardResult, ShardSpec
from evaluator.shipped import DIGITS_DEMO
from leaderboard import services
from leaderboard.models import Submission
from tests.evaluator.reports import probes
from trainers.recipe import load_recipe

WALLS = "plain, landlock 7, seccomp"


def checkpoint(folder: Path, number: int) -> Path:
    """Write a small checkpoint file whose content depends on `number`."""
    path = folder / f"{number}.safetensors"
    manifest = Manifest(architecture="digits-cnn", dataset="digits", recipe="digits/at")
    weights = {"weight": np.full(8, number, dtype=np.float32)}
    safetensors.numpy.save_file(weights, path, metadata={METADATA_KEY: manifest.to_json()})
    return path


def submit(
    folder: Path, title: str = "AT", *, number: int = 0, protocol: EvaluationProtocol = DIGITS_DEMO
) -> Submission:
    """Submit a made checkpoint."""
    return services.submit(checkpoint(folder, number), title=title, protocol=protocol)


def measure(submission: Submission, *, quality: float = 0.5, seed: int = 0) -> None:
    """Finish all shards of a submission's run with forged reports; a higher quality is more robust and flatter."""
    store = services.run_store()
    while claim := store.claim("forger", run_id=submission.run_id):
        store.finish(claim, report(claim.protocol, claim.spec, quality=quality, seed=seed))
    assert store.complete(submission.run_id) is not None


def published(
    folder: Path,
    title: str = "AT",
    *,
    number: int = 0,
    quality: float = 0.5,
    protocol: EvaluationProtocol = DIGITS_DEMO,
) -> Submission:
    """Return a submission that is measured and published."""
    submission = submit(folder, title, number=number, protocol=protocol)
    measure(submission, quality=quality, seed=number)
    services.publish_run(submission.run_id)
    submission.refresh_from_db()
    return submission


def trained(
    folder: Path,
    recipe_name: str,
    *,
    seed: int = 0,
    epoch: int | None = None,
    quality: float = 0.5,
    protocol: EvaluationProtocol = DIGITS_DEMO,
    digest: str | None = None,
    is_reference: bool = True,
) -> Submission:
    """Return a published checkpoint that says it was trained by a recipe: to the end, unless an epoch is given."""
    recipe = load_recipe(recipe_name)
    notes = {
        "recipe_digest": digest or recipe.digest,
        "seed": str(seed),
        "epoch": f"{epoch or recipe.epochs} of {recipe.epochs}",
    }
    manifest = Manifest(architecture="digits-cnn", dataset="digits", recipe=recipe_name, notes=notes)
    path = folder / "trained.safetensors"
    weights = {"weight": np.full(8, quality, dtype=np.float32)}
    safetensors.numpy.save_file(weights, path, metadata={METADATA_KEY: manifest.to_json()})
    submission = services.submit(path, title=recipe.label(seed), protocol=protocol, is_reference=is_reference)
    measure(submission, quality=quality, seed=seed)
    services.publish_run(submission.run_id)
    submission.refresh_from_db()
    return submission


def report(protocol: EvaluationProtocol, spec: ShardSpec, *, quality: float, seed: int) -> ShardResult:
    """Forge one shard's report."""
    generator = np.random.default_rng([seed, spec.start, spec.weight_sample or 0, len(spec.stage)])
    n = len(spec)
    indices = np.arange(spec.start, spec.stop)
    wrong = (indices + 17 * seed) % 50 == 0  # in whichever shard an example is
    clean_loss = np.where(wrong, 1, np.where(indices % 2, 0.15, 0.05))
    match spec.stage:
        case StageName.CLEAN:
            labels = indices % 10  # whoever measures them
            values = {
                "loss": clean_loss.tolist(),
                "label": labels.tolist(),
                "prediction": np.where(wrong, (labels + 1) % 10, labels).tolist(),
            }
        case StageName.TRUST:
            values = probes(clean_loss=float(clean_loss.mean()))
        case StageName.AUTOATTACK:
            broken = generator.random(n) > 0.4 + 0.5 * quality
            causes = generator.choice(BROKEN_BY[1:-1], n, p=[0.75, 0.2, 0.04, 0.01])
            values = {"broken_by": np.where(wrong, "clean", np.where(broken, causes, "robust")).tolist()}
        case StageName.PREVIEW:
            drawn, robust = sample(protocol), np.where(wrong, "clean", "robust").tolist()
            values = {
                "broken_by": robust,
                "autoattack": [one if i in drawn else None for i, one in zip(indices, robust, strict=True)],
            }
        case _:
            attack = protocol.attack(spec.stage)
            assert attack is not None
            restarts, places = attack.restarts, protocol.places(spec.stage)
            distance = 2 * abs(places[spec.weight_sample].position) if places else 0
            scale = 2 - quality + (1.5 - 1.2 * quality) * distance
            loss = generator.gamma(1.2, scale / 1.2, (n, 1)) + generator.random((n, restarts)) * 0.05
            loss = np.where(wrong[:, None], np.maximum(loss, 0.7), np.minimum(loss, 2.3))  # between ln 2 and ln 10
            label = np.exp(-loss)
            values = {
                "loss": loss.tolist(),
                "wrong_class_confidence": np.where(wrong[:, None], 1 - label, np.minimum(label, 1 - label)).tolist(),
                "correct": np.repeat(~wrong[:, None], restarts, axis=1).tolist(),
            }
    return ShardResult(spec, values, PassCounts(1100 * n, 1000 * n), 0.5, "cpu", {"torch": "2.13.0"}, sandbox=WALLS)
