"""The run store: the durable record of evaluation and training, the only room that speaks SQLAlchemy (torch-free)."""

from evaluator.store.reading import RunReader
from evaluator.store.records import (
    Claim,
    Event,
    FailedRun,
    FailureCount,
    HandIn,
    Pace,
    Pause,
    Queued,
    Role,
    RunRecord,
    RunState,
    ShardState,
    StageCost,
    StageRecord,
    Status,
    Sweep,
    TrainingClaim,
    TrainingOrder,
    TrainingRecord,
    Turn,
    WorkerRecord,
)
from evaluator.store.steps import MAX_FAILURES
from evaluator.store.store import RunStore
from evaluator.store.trainings import TrainingStore
from evaluator.store.workers import WorkerRegister

__all__ = [
    "MAX_FAILURES",
    "Claim",
    "Event",
    "FailedRun",
    "FailureCount",
    "HandIn",
    "Pace",
    "Pause",
    "Queued",
    "Role",
    "RunReader",
    "RunRecord",
    "RunState",
    "RunStore",
    "ShardState",
    "StageCost",
    "StageRecord",
    "Status",
    "Sweep",
    "TrainingClaim",
    "TrainingOrder",
    "TrainingRecord",
    "TrainingStore",
    "Turn",
    "WorkerRecord",
    "WorkerRegister",
]
