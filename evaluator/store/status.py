"""How all work stands, in a handful of queries (torch-free)."""

from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from sqlalchemy import Select, exists, func, select, union_all
from sqlalchemy.orm import Session

from evaluator.store.engine import Store, now, patient
from evaluator.store.reading import as_time
from evaluator.store.records import (
    ACTIVE,
    FailedRun,
    FailureCount,
    Role,
    RunState,
    ShardState,
    StageCost,
    Status,
)
from evaluator.store.rows import MEASURED, PauseRow, RefutedRow, RunRow, ShardRow, TrainingRow
from evaluator.store.workers import read_pauses, read_workers

UNKNOWN = "unknown"
"""The kind of failure of runs that failed before kinds were recorded."""

State = TypeVar("State", bound=StrEnum)


class StatusReader(Store):
    """Questions about all work at once; none of them waits for a writer."""

    @patient
    def clock(self) -> datetime:
        """Return the database's time, once it has been seen that the tables are there."""
        with self._reading() as session:
            seconds, _ = session.execute(select(now(), exists(select(PauseRow.role)))).one()
            return as_time(seconds)

    @patient
    def status(self, *, last_failures: int = 5) -> Status:
        """Return how all work stands, with the last few runs that failed."""
        pieces = [
            select(kind.state).join(RunRow, RunRow.id == kind.run_id).where(RunRow.state.in_(ACTIVE))
            for kind in MEASURED
        ]
        states = union_all(*pieces).subquery()
        with self._reading() as session:
            return Status(
                at=as_time(session.execute(select(now())).scalar_one()),
                runs=_counts(session, RunState, select(RunRow.state, func.count())),
                shards=_counts(session, ShardState, select(states.c.state, func.count())),
                trainings=_counts(session, ShardState, select(TrainingRow.state, func.count())),
                oldest_seconds=_oldest(session),
                workers=read_workers(session),
                pauses=read_pauses(session),
                costs=_costs(session),
                failures=_failures(session),
                refuted=session.scalars(select(func.count()).select_from(RefutedRow)).one(),
                last_failures=_last_failures(session, last_failures),
            )


def _counts(session: Session, kind: type[State], query: Select[State, int]) -> dict[State, int]:
    """Return how many rows of `query`, whose first column is a state, are in each state."""
    counts = dict.fromkeys(kind, 0)
    for state, count in session.execute(query.group_by(query.selected_columns[0])):
        counts[state] = count
    return counts


def _oldest(session: Session) -> dict[Role, float]:
    shard, again = (exists().where(kind.run_id == RunRow.id, kind.state == ShardState.QUEUED) for kind in MEASURED)
    run = select(func.max(now() - RunRow.created_at)).where(RunRow.state.in_(ACTIVE), shard | again)
    training = select(func.max(now() - TrainingRow.queued_at)).where(TrainingRow.state == ShardState.QUEUED)
    return {Role.EVALUATION: session.scalar(run) or 0.0, Role.TRAINING: session.scalar(training) or 0.0}


def _costs(session: Session) -> tuple[StageCost, ...]:
    query = select(ShardRow.stage, func.count(), func.sum(ShardRow.seconds))
    query = query.where(ShardRow.state == ShardState.DONE, ShardRow.seconds.is_not(None)).group_by(ShardRow.stage)
    found = session.execute(query.order_by(ShardRow.stage))
    return tuple(StageCost(stage, shards, seconds or 0.0) for stage, shards, seconds in found)


def _failures(session: Session) -> tuple[FailureCount, ...]:
    query = select(RunRow.failure, RunRow.fault, func.count()).where(RunRow.state == RunState.FAILED)
    found = session.execute(query.group_by(RunRow.failure, RunRow.fault).order_by(RunRow.failure, RunRow.fault))
    return tuple(FailureCount(failure or UNKNOWN, fault, runs) for failure, fault, runs in found)


def _last_failures(session: Session, most: int) -> tuple[FailedRun, ...]:
    query = select(RunRow.id, RunRow.finished_at, RunRow.failure, RunRow.fault, RunRow.error)
    query = query.where(RunRow.state == RunState.FAILED).order_by(RunRow.finished_at.desc(), RunRow.id).limit(most)
    return tuple(
        FailedRun(run_id, as_time(at or 0.0), failure or UNKNOWN, fault, error or "no reason was recorded")
        for run_id, at, failure, fault, error in session.execute(query)
    )
