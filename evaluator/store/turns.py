"""Whose turn it is, what is left to measure, and what measuring took lately (torch-free)."""

from collections import defaultdict
from uuid import UUID

from sqlalchemy import func, or_, select

from evaluator.metrics import StageName
from evaluator.store.engine import Store, patient
from evaluator.store.reading import as_time
from evaluator.store.records import ACTIVE, Pace, Pause, ShardState, Turn, WorkerRecord
from evaluator.store.rows import RunRow, ShardRow
from evaluator.store.steps import in_turn
from evaluator.store.workers import read_pauses, read_workers


class TurnReader(Store):
    """What a forecast needs; nothing here waits for a writer."""

    @patient
    def turns(self) -> tuple[Turn, ...]:
        """Return the runs that have not ended, in the order in which they would be served now."""
        examples = func.sum(ShardRow.stop - ShardRow.start)
        query = select(ShardRow.run_id, ShardRow.stage, ShardRow.state, examples)
        query = query.join(RunRow, RunRow.id == ShardRow.run_id).where(RunRow.state.in_(ACTIVE))
        left: defaultdict[tuple[UUID, ShardState], dict[StageName, int]] = defaultdict(dict)
        with self._reading() as session:
            for run_id, stage, state, count in session.execute(
                query.group_by(ShardRow.run_id, ShardRow.stage, ShardRow.state).order_by(ShardRow.stage)
            ):
                left[run_id, state][stage] = int(count)
            runs = session.scalars(in_turn(select(RunRow).where(RunRow.state.in_(ACTIVE))))
            return tuple(
                Turn(
                    run_id=run.id,
                    protocol_digest=run.protocol_digest,
                    owner=run.owner,
                    priority=run.priority,
                    created_at=as_time(run.created_at),
                    state=run.state,
                    waiting=left[run.id, ShardState.QUEUED],
                    held=left[run.id, ShardState.RUNNING],
                )
                for run in runs
            )

    @patient
    def paces(self, *, most_runs: int = 50) -> tuple[Pace, ...]:
        """Return what stages took so far of the runs that have not ended and of the last few that were started."""
        last = select(RunRow.id).where(RunRow.started_at.is_not(None)).order_by(RunRow.started_at.desc())
        recent = or_(RunRow.state.in_(ACTIVE), RunRow.id.in_(last.limit(most_runs)))
        query = select(
            RunRow.id,
            RunRow.protocol_digest,
            ShardRow.stage,
            func.sum(ShardRow.stop - ShardRow.start),
            func.sum(ShardRow.seconds),
        ).join(ShardRow, ShardRow.run_id == RunRow.id)
        query = query.where(recent, ShardRow.state == ShardState.DONE, ShardRow.seconds.is_not(None))
        query = query.group_by(RunRow.id, RunRow.protocol_digest, ShardRow.stage).order_by(RunRow.id, ShardRow.stage)
        with self._reading() as session:
            return tuple(
                Pace(run_id, digest, stage, int(examples), seconds or 0.0)
                for run_id, digest, stage, examples, seconds in session.execute(query)
            )

    @patient
    def attendance(self) -> tuple[tuple[WorkerRecord, ...], tuple[Pause, ...]]:
        """Return the workers that have been seen within a day, and which kinds of work are paused."""
        with self._reading() as session:
            return read_workers(session), read_pauses(session)
