"""The state of an unfinished training in one file: safetensors, its cursor as JSON in the header; never a pickle."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.optim import Optimizer

from evaluator.checkpoints import write_atomically
from evaluator.exceptions import InvalidRequest

FORMAT = "2"
"""Of saved states; another one is refused."""


class Stateful(Protocol):
    """A part with a memory of tensors."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the memory by name."""

    def load_state_dict(self, state: Mapping[str, Tensor], /) -> object:
        """Return to a saved memory."""


class Best(BaseModel):
    """The best snapshot so far, and the monitor's number that says so."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    value: float


class Cursor(BaseModel):
    """How far a training is, and which one it is."""

    digest: str
    seed: int
    epoch: int = 0
    seconds: float = 0.0
    log_bytes: int = 0
    best: Best | None = None


class Generators:
    """One CPU generator a purpose, so that variants of one seed share what they can: an order, a start."""

    def __init__(self, seed: int, purposes: tuple[str, ...]) -> None:
        self._generators = {
            purpose: torch.Generator().manual_seed(seed * 1_000 + number) for number, purpose in enumerate(purposes)
        }

    def __getitem__(self, purpose: str) -> torch.Generator:
        return self._generators[purpose]

    def state_dict(self) -> dict[str, Tensor]:
        """Return every generator's state."""
        return {purpose: generator.get_state() for purpose, generator in self._generators.items()}

    def load_state_dict(self, state: Mapping[str, Tensor], /) -> None:
        """Return to saved states."""
        for purpose, generator in self._generators.items():
            generator.set_state(state[purpose])


class OptimizerState:
    """An optimizer's tensors under flat names; its settings come from the recipe."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors as `parameter number/name`."""
        by_parameter = self._optimizer.state_dict()["state"]
        return {
            f"{number}/{name}": tensor
            for number, held in by_parameter.items()
            for name, tensor in held.items()
            if tensor is not None  # no momentum yet
        }

    def load_state_dict(self, state: Mapping[str, Tensor], /) -> None:
        """Return to saved tensors."""
        by_parameter: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            number, name = key.split("/")
            by_parameter.setdefault(int(number), {})[name] = tensor
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": by_parameter, "param_groups": groups})


def save(path: Path, cursor: Cursor, parts: Mapping[str, Stateful]) -> None:
    """Write all parts and the cursor, atomically: whoever is killed here leaves the previous state."""
    tensors = {
        f"{part}:{name}": tensor.detach().contiguous()
        for part, stateful in parts.items()
        for name, tensor in stateful.state_dict().items()
    }
    metadata = {"format": FORMAT, "cursor": cursor.model_dump_json()}
    write_atomically(path, safetensors.torch.save(tensors, metadata=metadata))


def read_cursor(path: Path) -> Cursor:
    """Return the cursor of a saved state.

    Raises:
        InvalidRequest: the file is torn, foreign, or of another format.
    """
    with _readable(path), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise KeyError(f"format {metadata.get('format')} where {FORMAT} was expected")
        return Cursor.model_validate_json(metadata["cursor"])


def restore(path: Path, parts: Mapping[str, Stateful]) -> None:
    """Return all parts to a saved state.

    Raises:
        InvalidRequest: the file is torn, or was saved by other parts.
    """
    with _readable(path):
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
        for part, stateful in parts.items():
            prefix = f"{part}:"
            stateful.load_state_dict(
                {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
            )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, ValidationError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InvalidRequest(
            f"{path} is not a state that this version can go on from ({type(error).__name__}: {reason}); "
            "train in another folder, or delete the file to begin anew"
        ) from error
