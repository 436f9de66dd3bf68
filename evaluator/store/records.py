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
    failure: str | None
    """The class of what made the run fail: the name of an exception."""
    log: str | None
    """The last lines that the last failed attempt wrote."""
    owner: str
    priority: int


@dataclass(frozen=True)
class StageRecord:
    """How far one stage of a run is on one split. `summary` exists once the run is complete."""

    stage: StageName
    split: Split
    shards: int
    shards_running: int
    shards_done: int
    shards_failed: int
    """Given up for good; of a run that goes on, pieces of its preview alone."""
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
    failures: int
    """How many attempts came to nothing before."""
    worker: str
    lease_seconds: float
    spec: ShardSpec
    protocol: EvaluationProtocol
    checkpoint_sha256: str
    audit: int = 0
    """Which repetition of a measurement this is: 0 for the shard itself, more for a piece of it that was drawn."""

    @property
    def ids(self) -> dict[str, str | int | None]:
        """What a log says of everything that happens under this claim."""
        ids: dict[str, str | int | None] = {
            "run_id": str(self.run_id),
            "stage": self.spec.stage,
            "split": self.spec.split,
            "start": self.spec.start,
            "stop": self.spec.stop,
            "weight_sample": self.spec.weight_sample,
            "attempt": self.attempt,
            "worker": self.worker,
        }
        return ids | ({"audit": self.audit} if self.audit else {})


@dataclass(frozen=True)
class Sweep:
    """What a sweep did: leases it found expired, runs it ended either way."""

    expired: int
    failed: tuple[UUID, ...]
    completed: tuple[UUID, ...]


class Role(StrEnum):
    """What a worker does."""

    EVALUATION = "evaluation"
    TRAINING = "training"


@dataclass(frozen=True)
class WorkerRecord:
    """A worker as it was last seen. Times are the database's, in UTC."""

    name: str
    role: Role
    device: str | None
    """What people call its device; None before its first work."""
    versions: dict[str, str]
    started_at: datetime
    seen_at: datetime
    silent_seconds: float
    draining: bool
    busy_with: str | None
    """The shard or training that it holds, in words."""
    refuted: int
    """In how many runs two other reports agreed against one of its own."""


@dataclass(frozen=True)
class Pause:
    """Why, and since when, work of a role is not handed out."""

    role: Role
    since: datetime
    reason: str


@dataclass(frozen=True)
class StageCost:
    """What all shards of a stage took that were ever measured."""

    stage: StageName
    shards: int
    seconds: float


@dataclass(frozen=True)
class FailureCount:
    """How many runs failed for one kind of reason: the name of an exception, and who had to act."""

    failure: str
    fault: Fault | None
    runs: int


@dataclass(frozen=True)
class FailedRun:
    """Why a run failed, and when."""

    run_id: UUID
    at: datetime
    failure: str
    fault: Fault | None
    error: str


@dataclass(frozen=True)
class Status:
    """How all work stands. Each state and each role has its number, zero or not."""

    at: datetime
    """The database's time, in UTC."""
    runs: dict[RunState, int]
    shards: dict[ShardState, int]
    """Of the runs that have not ended, and what is measured again of them; what waits is cut only when claimed."""
    trainings: dict[ShardState, int]
    oldest_seconds: dict[Role, float]
    """The age of the oldest run of which a shard waits, and of the oldest training that waits; 0 where none does."""
    workers: tuple[WorkerRecord, ...]
    pauses: tuple[Pause, ...]
    costs: tuple[StageCost, ...]
    failures: tuple[FailureCount, ...]
    refuted: int
    """How often a worker's reports of a run were refuted."""
    last_failures: tuple[FailedRun, ...]
    """Latest first."""


@dataclass(frozen=True)
class Turn:
    """A run that has not ended, and what is left to measure of it: examples by stage."""

    run_id: UUID
    protocol_digest: str
    owner: str
    priority: int
    created_at: datetime
    state: RunState
    waiting: dict[StageName, int]
    held: dict[StageName, int]
    """Examples of the shards that are being measured."""


@dataclass(frozen=True)
class Pace:
    """What measuring a stage of a run took so far: examples of the shards that are done, and their seconds."""

    run_id: UUID
    protocol_digest: str
    stage: StageName
    examples: int
    seconds: float


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
    saved_epoch: int | None
    """The epoch from which a worker on any host can go on; None when there is no such state."""
    saved_sha256: str | None
    """Where that state lies in the artifacts."""
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
    saved_epoch: int | None
    saved_sha256: str | None
    """The state in the artifacts, and how many epochs it has behind it; None when there is none."""

    @property
    def ids(self) -> dict[str, str | int | None]:
        """What a log says of everything that happens under this claim."""
        return {"training": self.digest, "seed": self.seed, "attempt": self.attempt, "worker": self.worker}


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
