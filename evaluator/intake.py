"""From a file that somebody hands in to a checkpoint of ours, or one sentence that refuses it (torch-free).

Its size, format and form are checked here, in this order. That its tensors are its network's, that the network
is not too dear and that its weights are sound is for the process that measures, before the first shard.
"""

import subprocess
from pathlib import Path

from evaluator.checkpoint_file import MAX_FILE_BYTES, Checkpoint, add_manifest, open_checkpoint
from evaluator.child import clean_environment
from evaluator.converting import REFUSED
from evaluator.environment import ROOT, read_environment
from evaluator.exceptions import InvalidCheckpoint, MeasuringDied
from evaluator.formats import Format, recognize
from evaluator.manifest import METADATA_KEY, Manifest
from evaluator.messages import printable
from evaluator.pickle_scan import scan
from evaluator.safetensors_header import read_header
from evaluator.sandbox import find_sandbox

_CONVERTING_SECONDS = 300.0
_CONVERTING_BYTES = 2 * MAX_FILE_BYTES
_LONGEST_SENTENCE = 400


def receive(path: Path, folder: Path, *, manifest: Manifest | None = None) -> Checkpoint:
    """Return the checkpoint that the file at `path` is, or the one that was made of it in `folder`.

    `manifest` is for files that carry none: plain safetensors, and state dicts of `torch.save`, which are converted
    once in a sandboxed process and never opened again.

    Raises:
        InvalidCheckpoint: the file is refused; the message says what it is and what to send instead.
        InvalidRequest: it carries a manifest that the given one contradicts.
        MeasuringDied: the process that converts ended in an unforeseen way.
    """
    if manifest is not None and path.is_file() and recognize(path) is Format.TORCH:
        scan(path)  # so that most refusals need no process
        path = _converted(path, folder / f"{path.stem}.converted")
    checkpoint = open_checkpoint(path, manifest=manifest)
    if METADATA_KEY in read_header(path).metadata:
        return checkpoint
    packed = folder / f"{path.stem}.safetensors"
    add_manifest(path, checkpoint.manifest, packed)
    return open_checkpoint(packed)


def _converted(path: Path, target: Path) -> Path:
    sandbox = find_sandbox(read_environment().sandbox)
    command = sandbox.command(
        "evaluator.converting", str(path.resolve()), reads=[path.resolve()],
        memory_bytes=_CONVERTING_BYTES, file_bytes=_CONVERTING_BYTES,
    )  # fmt: skip
    with target.open("xb") as output:
        try:
            finished = subprocess.run(
                command, cwd=ROOT, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.PIPE, timeout=_CONVERTING_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise InvalidCheckpoint(
                f"{path.name} was not converted within {_CONVERTING_SECONDS:g} seconds; send safetensors"
            ) from None
    last = printable(finished.stderr.decode(errors="replace").strip().rpartition("\n")[2])[:_LONGEST_SENTENCE]
    if finished.returncode == REFUSED:
        raise InvalidCheckpoint(last)
    if finished.returncode:
        raise MeasuringDied(f"converting {path.name} ended with exit status {finished.returncode} ({last})")
    return target
