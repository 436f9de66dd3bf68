"""Evaluate a model in memory: all of a protocol, a piece after the other, in this process."""

from collections.abc import Callable

import torch
from torch import nn

from evaluator.batching import fastest_batch_size
from evaluator.combine import combine
from evaluator.datasets import Dataset, load_dataset
from evaluator.metrics import StageName
from evaluator.plan import Cost, cut, plan
from evaluator.preview import Preview, preview_of
from evaluator.protocol import EvaluationProtocol
from evaluator.results import EvaluationResult, ShardResult, ShardSpec
from evaluator.shipped import find_protocol
from evaluator.stages import measure

Progress = Callable[[ShardSpec, int, int], None]
"""Told after each piece: the piece, and of all examples of all stages how many are done and how many there are."""

_TARGET_SECONDS = 10.0
"""How long a piece takes, and so how often progress is told."""


def evaluate(
    model: nn.Module,
    protocol: EvaluationProtocol | str,
    *,
    dataset: Dataset | None = None,
    device: torch.device | str | None = None,
    batch_size: int | None = None,
    limit: int | None = None,
    low_precision: bool = False,
    progress: Progress | None = None,
    on_preview: Callable[[Preview], None] | None = None,
) -> EvaluationResult:
    """Measure `model` under `protocol` (a name means its newest version) and return all numbers.

    The model takes float32 images [n, c, h, w] in [0, 1], normalises inside and returns logits [n, classes]. It is
    measured where its parameters lie unless `device` moves it, and is otherwise left as it was: weights, modes,
    gradients and every global generator. Its batches are as large as is fastest, or `batch_size`. `limit` bounds the
    examples a split, and `low_precision` lets AutoAttack search in bfloat16, where float32 confirms what it finds; such
    results are never rankable. `on_preview` is given a quick estimate of the robust error, made right after the clean
    error.

    Raises:
        InvalidRequest: unknown protocol, or a limit below 1.
        InvalidCheckpoint: logits that are not finite or of the wrong shape.
        DatasetMissing: the protocol's images are not on this machine.

    Example:
        >>> result = evaluate(model, "digits-linf", limit=100)
        >>> result.measurement("robust_loss_test").value
    """
    if isinstance(protocol, str):
        protocol = find_protocol(protocol)
    protocol = protocol.limited(limit)
    if low_precision:
        protocol = protocol.in_low_precision()
    dataset = dataset or load_dataset(protocol.dataset)
    if device is None:
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    model.to(device)
    specs = plan(protocol, preview=on_preview is not None)
    if batch_size is None:
        rows = max(map(len, specs)) * protocol.robust_loss.restarts
        batch_size = fastest_batch_size(model, dataset.facts.image_shape, torch.device(device), most=rows)
    total, done = sum(map(len, specs)), 0
    results: list[ShardResult] = []
    costs: dict[StageName, Cost] = {}
    for uncut in specs:
        rest: ShardSpec | None = uncut
        while rest is not None:
            spec, rest = cut(protocol, rest, last=costs.get(uncut.stage), target_seconds=_TARGET_SECONDS)
            result = measure(model, dataset, protocol, spec, device=device, batch_size=batch_size)
            results.append(result)
            costs[spec.stage] = Cost(len(spec), result.seconds)
            done += len(spec)
            if progress is not None:
                progress(spec, done, total)
            if spec.stage is StageName.PREVIEW and on_preview is not None:
                on_preview(preview_of(result))
    return combine(protocol, results, limit=limit)
