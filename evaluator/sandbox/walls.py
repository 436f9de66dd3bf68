"""What is put up around a process, as its parent says it to `evaluator.sandbox.inside` (torch-free)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True)
class Walls:
    """What the one that starts a process decided: `landlock` is a version, 0 for none; `memory_bytes` None for any."""

    landlock: int
    seccomp: bool
    reads: Sequence[str]
    writes: Sequence[str]
    devices: Sequence[str]
    memory_bytes: int | None
    file_bytes: int

    def to_json(self) -> str:
        """Return these walls as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))
