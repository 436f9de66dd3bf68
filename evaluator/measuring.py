"""The process that measures one checkpoint: a request a line on standard input, an answer a line on standard output.

`python -m evaluator.measuring FILE --device cpu --data-dir FOLDER` is what `evaluator.child` starts. It needs these,
its three pipes and nothing else: no network, no variable that names a store, nowhere to write. `evaluator.sandbox` sees
to that. It ends with its parent.
"""

import argparse
import faulthandler
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from evaluator.exceptions import EvaluatorError, OutOfMemory
from evaluator.lifetime import end_at_hang_up, end_with_parent
from evaluator.messages import Answer, Failed, Measured, Ready, Request, answer_to_line, request_from_line
from evaluator.protocol import from_json
from evaluator.results import ShardResult

if TYPE_CHECKING:
    import torch
    from torch import nn

_MEMORY_RAN_OUT = (
    "out of memory",
    "can't allocate memory",
    "std::bad_alloc",
    "_STATUS_ALLOC_FAILED",
    "could not create a primitive",
    "could not execute a primitive",
)
"""How torch's errors say it: its allocators', C++'s, cuBLAS's and cuDNN's, and oneDNN's; all are RuntimeErrors."""


def main() -> int:
    """Open the checkpoint that the command line names, say so, and measure until nobody asks any more."""
    faulthandler.enable()
    end_with_parent(signal.SIGKILL)
    end_at_hang_up(sys.stdin.fileno())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump of a crash could fill the disk
    arguments = argparse.ArgumentParser()
    arguments.add_argument("checkpoint", type=Path)
    arguments.add_argument("--device", required=True)
    arguments.add_argument("--data-dir", type=Path, required=True)
    chosen = arguments.parse_args()
    with _take_output() as output:

        def say(answer: Answer) -> None:
            output.write(answer_to_line(answer))
            output.flush()

        try:
            model, device = _open(chosen.checkpoint, chosen.device)
            say(_ready(device))
            sizes: dict[str, int] = {}
        except Exception as error:
            say(_failed(error))
            return 1
        for line in sys.stdin.buffer:
            try:
                say(Measured(_measure(model, device, chosen.data_dir, request_from_line(line), sizes)))
            except Exception as error:
                say(_failed(error))
    return 0


def _take_output() -> BinaryIO:
    """Return standard output for our answers alone; what libraries print goes to standard error from now on."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return output


def _open(path: Path, device_name: str) -> "tuple[nn.Module, torch.device]":
    # Torch comes here and not above, so that neither its import nor what it prints precedes main.
    from evaluator.checkpoints import load_for_measuring, open_checkpoint
    from evaluator.devices import find_device

    device = find_device(device_name)
    return load_for_measuring(open_checkpoint(path), device=device), device


def _ready(device: "torch.device") -> Ready:
    from evaluator.stages import device_name, library_versions

    return Ready(device_name(device), library_versions())


def _measure(
    model: "nn.Module", device: "torch.device", data_dir: Path, request: Request, sizes: dict[str, int]
) -> ShardResult:
    """Measure what is asked for; `sizes` remembers by data set which batches are fastest."""
    from evaluator.batching import LARGEST, fastest_batch_size
    from evaluator.datasets import load_dataset
    from evaluator.stages import measure

    protocol, spec, batch_size = from_json(request.protocol), request.spec, request.batch_size
    dataset = load_dataset(protocol.dataset, data_dir=data_dir)
    try:
        if batch_size is None:
            if protocol.dataset not in sizes:
                sizes[protocol.dataset] = fastest_batch_size(
                    model, dataset.facts.image_shape, device, most=LARGEST[device.type]
                )
            batch_size = sizes[protocol.dataset]
        return measure(model, dataset, protocol, spec, device=device, batch_size=batch_size)
    except Exception as error:
        if memory_ran_out(error):
            raise OutOfMemory(f"{spec} needs more memory than {device} has, in batches of {batch_size}") from error
        raise


def memory_ran_out(error: Exception) -> bool:
    """Whether `error` is one of the many ways in which torch and Python say that memory does not suffice."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in _MEMORY_RAN_OUT)
    )


def _failed(error: Exception) -> Failed:
    traceback.print_exception(error)
    if not isinstance(error, EvaluatorError) and memory_ran_out(error):
        return Failed(OutOfMemory.__name__, "the checkpoint or its data set needs more memory than there is")
    return Failed(type(error).__name__, str(error))


if __name__ == "__main__":
    sys.exit(main())
