"""The run store: the durable record of evaluation work, and the only room that speaks SQLAlchemy (torch-free)."""

from evaluator.store.reading import RunReader
from evaluator.store.records import Claim, Event, RunRecord, RunState, ShardState, StageRecord, Sweep
from evaluator.store.steps import MAX_FAILURES
from evaluator.store.store import RunStore

__all__ = [
    "MAX_FAILURES",
    "Claim",
    "Event",
    "RunReader",
    "RunRecord",
    "RunState",
    "RunStore",
    "ShardState",
    "StageRecord",
    "Sweep",
]
