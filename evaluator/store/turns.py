"""Whose turn it is, what is left to measure, and what measuring took lately (torch-free)."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from evaluator.metrics import StageName
from evaluator.plan import plan
from evaluator.protocol import from_json
from evaluator.store.engine import Store, patient
from evaluator.store.reading import SUMMARY, as_time
from evaluator.store.records import ACTIVE, Pace, Pause, RunState, ShardState, Turn, WorkerRecord
from evaluator.store.rows import RunRow, ShardRow, StageRow
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
        """Return what stages took of the last few complete runs, and took so far of those that have not ended."""
        last = select(RunRow).where(RunRow.state == RunState.COMPLETE).order_by(RunRow.finished_at.desc())
        with self._reading() as session:
            complete = {run.id: run for run in session.scalars(last.limit(most_runs))}
            summaries = select(StageRow.run_id, StageRow.summary)
            summaries = summaries.where(StageRow.run_id.in_(complete), StageRow.summary.is_not(None))
            seconds: defaultdict[tuple[UUID, StageName], float] = defaultdict(float)
            for run_id, text in session.execute(summaries.order_by(StageRow.run_id, StageRow.position)):
                summary = SUMMARY.validate_json(text or "")
                seconds[run_id, summary.stage] += summary.seconds
            planned = {run.protocol_digest: _planned(run.protocol) for run in complete.values()}
            ended = [
                Pace(run_id, digest := complete[run_id].protocol_digest, stage, planned[digest][stage], taken)
                for (run_id, stage), taken in seconds.items()
            ]
            return (*ended, *_so_far(session))

    @patient
    def attendance(self) -> tuple[tuple[WorkerRecord, ...], tuple[Pause, ...]]:
        """Return the workers that have been seen within a day, and which kinds of work are paused."""
        with self._reading() as session:
            return read_workers(session), read_pauses(session)


def _planned(protocol: str) -> Counter[StageName]:
    """Return how many examples a protocol's stages have."""
    examples: Counter[StageName] = Counter()
    for spec in plan(from_json(protocol)):
        examples[spec.stage] += len(spec)
    return examples


def _so_far(session: Session) -> Iterator[Pace]:
    query = select(
        RunRow.id,
        RunRow.protocol_digest,
        ShardRow.stage,
        func.sum(ShardRow.stop - ShardRow.start),
        func.sum(ShardRow.seconds),
    ).join(ShardRow, ShardRow.run_id == RunRow.id)
    query = query.where(RunRow.state.in_(ACTIVE), ShardRow.state == ShardState.DONE, ShardRow.seconds.is_not(None))
    query = query.group_by(RunRow.id, RunRow.protocol_digest, ShardRow.stage).order_by(RunRow.id, ShardRow.stage)
    for run_id, digest, stage, examples, seconds in session.execute(query):
        yield Pace(run_id, digest, stage, int(examples), seconds or 0.0)
