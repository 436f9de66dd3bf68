"""What the run store hands out: frozen values, never rows (torch-free)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from evaluator.exceptions import Fault
from evaluator.metrics import StageName
from evaluator.protocol import EvaluationProtocol
from evaluator.results import ShardSpec, StageSummary
from evaluator.types import Split


class RunState(StrEnum):
    """Where a run stands: queued → running → complete, failed or cancelled."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self not in ACTIVE


ACTIVE = (RunState.QUEUED, RunState.RUNNING)


class ShardState(StrEnum):
    """Where a shard or a training stands: queued → running → done; a failed shard ends its run."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class RunRecord:
    """One run: a protocol on a checkpoint, and what became of it. Times are the database's, in UTC."""

    id: UUID
    protocol: EvaluationProtocol
    protocol_digest: str
    checkpoint_sha256: str
    limit: int | None
    state: RunState
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    fault: Fault | None


@dataclass(frozen=True)
class StageRecord:
    """How far one stage of a run is on one split. `summary` exists once the run is complete."""

    stage: StageName
    split: Split
    shards: int
    shards_running: int
    shards_done: int
    examples: int
    examples_done: int
    attempts: int
    """The most often that one shard was claimed."""
    workers: tuple[str, ...]
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    """The last failure of an attempt, also of one that was repeated since."""
    summary: StageSummary | None


@dataclass(frozen=True)
class Event:
    """One line of a run's log."""

    at: datetime
    text: str


@dataclass(frozen=True)
class Claim:
    """A worker's right to measure one shard until its lease expires. The attempt number is the fence."""

    run_id: UUID
    position: int
    attempt: int
    worker: str
    lease_seconds: float
    spec: ShardSpec
    protocol: EvaluationProtocol
    checkpoint_sha256: str


@dataclass(frozen=True)
class Sweep:
    """What a sweep did: leases it found expired, runs it ended either way."""

    expired: int
    failed: tuple[UUID, ...]
    completed: tuple[UUID, ...]


@dataclass(frozen=True)
class TrainingOrder:
    """A training that shall be done once, and one snapshot of it that shall be handed in under a protocol.

    `recipe` is JSON that the trainers understand; `digest` is the same for all recipes that share the training.
    """

    digest: str
    seed: int
    name: str
    recipe: str
    epochs: int
    snapshot: Literal["final", "best"]
    title: str
    protocol: EvaluationProtocol


@dataclass(frozen=True)
class TrainingRecord:
    """One training and what became of it."""

    digest: str
    seed: int
    name: str
    epochs: int
    epochs_done: int
    """The furthest that any attempt came."""
    state: ShardState
    attempt: int
    worker: str | None
    error: str | None
    """The last failure of an attempt; None once the training is done."""
    fault: Fault | None
    final_sha256: str | None
    best_sha256: str | None


@dataclass(frozen=True)
class TrainingClaim:
    """A worker's right to train until its lease expires. The attempt number is the fence."""

    digest: str
    seed: int
    attempt: int
    worker: str
    lease_seconds: float
    recipe: str


@dataclass(frozen=True)
class HandIn:
    """A trained checkpoint in the artifacts that shall be submitted under a title, to be measured by a protocol."""

    checkpoint_sha256: str
    title: str
    protocol: EvaluationProtocol


@dataclass(frozen=True)
class Queued:
    """How many trainings an order made wait, and how many hand-ins it added."""

    trainings: int
    hand_ins: int
