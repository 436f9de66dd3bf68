"""What can be asked of the run store without changing anything (torch-free)."""

from collections import defaultdict
from datetime import UTC, datetime
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import select

from evaluator.metrics import StageName
from evaluator.preview import Preview, preview_of
from evaluator.protocol import from_json
from evaluator.results import (
    EvaluationResult,
    ShardResult,
    ShardSpec,
    StageSummary,
    evaluation_from_json,
    shard_from_json,
)
from evaluator.store.engine import Store, patient
from evaluator.store.records import Event, RunRecord, RunState, ShardState, StageRecord
from evaluator.store.rows import EventRow, RunRow, ShardRow, StageRow
from evaluator.types import Split

SUMMARY = TypeAdapter(StageSummary)


class RunReader(Store):
    """Reads of the runs; none of them waits for a writer."""

    @patient
    def run(self, run_id: UUID) -> RunRecord | None:
        """Return one run, or None where there is none."""
        with self._reading() as session:
            row = session.get(RunRow, run_id)
            return None if row is None else _record(row)

    @patient
    def runs(self, *states: RunState) -> tuple[RunRecord, ...]:
        """Return the runs in any of `states` (in all states where none is named), oldest first."""
        query = select(RunRow).order_by(RunRow.created_at, RunRow.id)
        if states:
            query = query.where(RunRow.state.in_(states))
        with self._reading() as session:
            return tuple(_record(row) for row in session.scalars(query))

    @patient
    def progress(self, run_id: UUID) -> tuple[StageRecord, ...]:
        """Return the stages of a run in their order; empty for an unknown run."""
        with self._reading() as session:
            stages = session.scalars(select(StageRow).filter_by(run_id=run_id).order_by(StageRow.position)).all()
            shards: defaultdict[tuple[StageName, Split], list[ShardRow]] = defaultdict(list)
            for shard in session.scalars(select(ShardRow).filter_by(run_id=run_id).order_by(ShardRow.position)):
                shards[shard.stage, shard.split].append(shard)
            return tuple(_progress(stage, shards[stage.stage, stage.split]) for stage in stages)

    @patient
    def shard_results(self, run_id: UUID, *stages: StageName) -> tuple[ShardResult, ...]:
        """Return the reports of the shards that are done, of `stages` or of all, in plan order."""
        query = select(ShardRow.result).filter_by(run_id=run_id, state=ShardState.DONE).order_by(ShardRow.position)
        if stages:
            query = query.where(ShardRow.stage.in_(stages))
        with self._reading() as session:
            return tuple(shard_from_json(text) for text in session.scalars(query) if text is not None)

    @patient
    def known_labels(self, run_id: UUID, spec: ShardSpec) -> dict[int, int]:
        """Return the labels, by example, that the last complete run on the data set of a run found in a shard."""
        of_run = select(RunRow.dataset).where(RunRow.id == run_id).scalar_subquery()
        last = select(RunRow.id).where(RunRow.dataset == of_run, RunRow.state == RunState.COMPLETE)
        last = last.order_by(RunRow.finished_at.desc()).limit(1)
        query = select(ShardRow.result).where(ShardRow.run_id == last.scalar_subquery())
        query = query.where(ShardRow.stage == StageName.CLEAN, ShardRow.split == spec.split)
        query = query.where(ShardRow.start < spec.stop, ShardRow.stop > spec.start)
        with self._reading() as session:
            results = [shard_from_json(text) for text in session.scalars(query) if text is not None]
        return {
            example: label
            for result in results
            for example, label in enumerate(result.values["label"], start=result.spec.start)
        }

    @patient
    def result(self, run_id: UUID) -> EvaluationResult | None:
        """Return the numbers of a complete run, or None."""
        with self._reading() as session:
            text = session.scalar(select(RunRow.result).filter_by(id=run_id))
            return None if text is None else evaluation_from_json(text)

    def preview(self, run_id: UUID) -> Preview | None:
        """Return the quick estimate of a run that has not ended, once it stands; the run's own number takes its place.

        None where nobody asked for one, or it failed.
        """
        run = self.run(run_id)
        if run is None or run.state.ended:
            return None
        reports = self.shard_results(run_id, StageName.PREVIEW)
        return preview_of(reports[0]) if reports else None

    @patient
    def events(self, run_id: UUID) -> tuple[Event, ...]:
        """Return the log of a run, oldest line first."""
        query = select(EventRow).filter_by(run_id=run_id).order_by(EventRow.id)
        with self._reading() as session:
            return tuple(Event(as_time(row.at), row.text) for row in session.scalars(query))


def _record(row: RunRow) -> RunRecord:
    return RunRecord(
        id=row.id,
        protocol=from_json(row.protocol),
        protocol_digest=row.protocol_digest,
        checkpoint_sha256=row.checkpoint_sha256,
        limit=row.limit,
        state=row.state,
        created_at=as_time(row.created_at),
        started_at=_time_or_none(row.started_at),
        finished_at=_time_or_none(row.finished_at),
        error=row.error,
        fault=row.fault,
        failure=row.failure,
        log=row.log,
        owner=row.owner,
        priority=row.priority,
    )


def _progress(stage: StageRow, shards: list[ShardRow]) -> StageRecord:
    done = [shard for shard in shards if shard.state is ShardState.DONE]
    errors = [shard.error for shard in shards if shard.error is not None]
    return StageRecord(
        stage=stage.stage,
        split=stage.split,
        shards=len(shards),
        shards_running=sum(shard.state is ShardState.RUNNING for shard in shards),
        shards_done=len(done),
        shards_failed=sum(shard.state is ShardState.FAILED for shard in shards),
        examples=sum(shard.stop - shard.start for shard in shards),
        examples_done=sum(shard.stop - shard.start for shard in done),
        attempts=max((shard.attempt for shard in shards), default=0),
        workers=tuple(sorted({shard.worker for shard in shards if shard.worker is not None})),
        started_at=_time_or_none(min((s.claimed_at for s in shards if s.claimed_at is not None), default=None)),
        finished_at=_time_or_none(max(s.finished_at or 0.0 for s in done)) if len(done) == len(shards) > 0 else None,
        error=errors[-1] if errors else None,
        summary=None if stage.summary is None else SUMMARY.validate_json(stage.summary),
    )


def as_time(seconds: float) -> datetime:
    """Return a time of the database."""
    return datetime.fromtimestamp(seconds, UTC)


def _time_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else as_time(seconds)
