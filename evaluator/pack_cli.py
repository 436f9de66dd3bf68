"""`python -m evaluator pack IN --architecture NAME --dataset NAME`: make the file that is handed in, and check it here.

Exit codes: 0 packed · 1 a failure of ours · 2 the request or the checkpoint is wrong.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape

from evaluator.architectures import ARCHITECTURES
from evaluator.dataset_facts import DATASET_FACTS, find_dataset_facts
from evaluator.exceptions import EvaluatorError, Fault, InvalidRequest
from evaluator.manifest import Manifest, read_options

if TYPE_CHECKING:
    from evaluator.packing import Normalization, Packed


def parser(program: str) -> argparse.ArgumentParser:
    """Return the argument parser, which `manage.py pack` shares."""
    arguments = argparse.ArgumentParser(
        prog=program, description="Turn a PyTorch checkpoint into the file that is handed in, and check it as there."
    )
    arguments.add_argument("checkpoint", type=Path, help="what torch.save or safetensors wrote; prefixes do not matter")
    arguments.add_argument("--architecture", required=True, help=f"one of {', '.join(ARCHITECTURES)}")
    arguments.add_argument("--options", default="{}", metavar="JSON", help="the architecture's options")
    arguments.add_argument("--dataset", required=True, help=f"one of {', '.join(DATASET_FACTS)}")
    arguments.add_argument("--normalization", metavar="HOW", help='none, dataset, or {"mean": [...], "std": [...]}')
    arguments.add_argument("--key", help="where in the file the network stands, such as ema; only if several fit")
    arguments.add_argument("--out", type=Path, metavar="FILE", help="default: the file's name with .safetensors")
    return arguments


def main(argv: Sequence[str] | None = None, program: str = "python -m evaluator pack") -> int:
    """Pack what the arguments name and say what was written; return the exit code."""
    arguments = parser(program).parse_args(argv)
    messages = Console(stderr=True)
    try:
        packed = _pack(arguments)
    except EvaluatorError as error:
        messages.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 1 if error.fault is Fault.OURS else 2
    checkpoint, out = packed.checkpoint, Console()
    manifest = checkpoint.manifest
    for line in (
        f"{checkpoint.path}: {manifest.architecture} {json.dumps(manifest.options)} for {manifest.dataset}",
        f"sha256 {checkpoint.sha256}",
        f"weights stood under {packed.prefix!r}; {len(packed.ignored)} other tensors were left out",
    ):
        out.print(escape(line), highlight=False, soft_wrap=True)
    return 0


def _pack(arguments: argparse.Namespace) -> "Packed":
    manifest = Manifest(arguments.architecture, arguments.dataset, read_options(arguments.options))
    normalization = _normalization(arguments.normalization, manifest.dataset)
    target = arguments.out or arguments.checkpoint.with_suffix(".safetensors")
    if not target.resolve().parent.is_dir():
        raise InvalidRequest(f"--out names a folder that does not exist: {target.parent}")
    if target.exists():
        raise InvalidRequest(f"{target} exists; name another file by --out, or remove it")

    from evaluator.packing import pack

    return pack(arguments.checkpoint, manifest, target, key=arguments.key, normalization=normalization)


def _normalization(text: str | None, dataset: str) -> "Normalization | None":
    from evaluator.packing import Normalization

    facts = find_dataset_facts(dataset)
    channels = facts.image_shape[0]
    match text:
        case None:
            return None
        case "none":
            return Normalization((0.0,) * channels, (1.0,) * channels)
        case "dataset":
            return Normalization(facts.mean, facts.std)
    try:
        return TypeAdapter(Normalization).validate_json(text)
    except ValidationError:
        raise InvalidRequest(
            f"--normalization was {text[:80]!r}; write none, dataset, or "
            '\'{"mean": [0.49, 0.48, 0.45], "std": [0.25, 0.24, 0.26]}\''
        ) from None
