"""What the run store hands out: frozen values, never rows (torch-free)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
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
    """Where a shard stands: queued → running → done; failed ends its run."""

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
