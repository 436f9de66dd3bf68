"""The steps that the run store's transactions are made of (torch-free).

Shards are locked before their run, and shards that somebody else holds are skipped, so no two transactions wait
for each other. Ending a run touches none of its shards: those of an ended run are simply never claimed.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, Select, Update, exists, select, update
from sqlalchemy.orm import Session

from evaluator.exceptions import Fault, InvalidResult, LostLease
from evaluator.plan import plan
from evaluator.protocol import EvaluationProtocol, to_json
from evaluator.results import ShardResult, ShardSpec, shard_from_json, shard_to_json
from evaluator.store.engine import now
from evaluator.store.records import ACTIVE, Claim, RunState, ShardState
from evaluator.store.rows import NO_SAMPLE, EventRow, RunRow, ShardRow, StageRow

MAX_FAILURES = 3
"""A shard whose attempts came to nothing this often ends its run."""


def plan_run(
    session: Session, run_id: UUID, protocol: EvaluationProtocol, checkpoint_sha256: str, limit: int | None
) -> None:
    """Add a queued run with all its stages and shards."""
    specs = plan(protocol)
    run = RunRow(
        id=run_id,
        protocol=to_json(protocol),
        protocol_digest=protocol.digest,
        checkpoint_sha256=checkpoint_sha256,
        limit=limit,
        state=RunState.QUEUED,
        created_at=now(),
    )
    session.add(run)
    session.flush()
    for position, (stage, split) in enumerate(dict.fromkeys((spec.stage, spec.split) for spec in specs)):
        session.add(StageRow(run_id=run_id, stage=stage, split=split, position=position))
    session.flush()
    for position, spec in enumerate(specs):
        shard = ShardRow(
            run_id=run_id,
            position=position,
            stage=spec.stage,
            split=spec.split,
            start=spec.start,
            stop=spec.stop,
            weight_sample=NO_SAMPLE if spec.weight_sample is None else spec.weight_sample,
            state=ShardState.QUEUED,
        )
        session.add(shard)
    note(session, run_id, f"queued: {protocol.label}, {len(specs)} shards")


def note(session: Session, run_id: UUID, line: str) -> None:
    """Add a line to the run's log."""
    session.add(EventRow(run_id=run_id, at=now(), text=line))


def shards(state: ShardState, run_id: UUID | None) -> Select[ShardRow]:
    """Select the shards in `state` of runs that have not ended, oldest run first, and lock them."""
    query = select(ShardRow).join(RunRow, RunRow.id == ShardRow.run_id)
    query = query.where(ShardRow.state == state, RunRow.state.in_(ACTIVE))
    if run_id is not None:
        query = query.where(ShardRow.run_id == run_id)
    query = query.order_by(RunRow.created_at, RunRow.id, ShardRow.position)
    return query.with_for_update(of=ShardRow, skip_locked=True)


def spec_of(shard: ShardRow) -> ShardSpec:
    """Return what a shard asks for."""
    sample = None if shard.weight_sample == NO_SAMPLE else shard.weight_sample
    return ShardSpec(shard.stage, shard.split, shard.start, shard.stop, sample)


def swap(session: Session, claim: Claim, **values: Any) -> None:
    """Change the claimed shard if the claim still holds it.

    Raises:
        LostLease: it does not.
    """
    active = exists().where(RunRow.id == claim.run_id, RunRow.state.in_(ACTIVE))
    held = update(ShardRow).where(
        ShardRow.run_id == claim.run_id,
        ShardRow.position == claim.position,
        ShardRow.attempt == claim.attempt,
        ShardRow.state == ShardState.RUNNING,
        active,
    )
    if not _changed(session, held.values(**values)):
        raise LostLease(
            f"attempt {claim.attempt} no longer holds {claim.spec} of run {claim.run_id}: its lease expired, "
            f"it reported already, or the run ended; this report is refused, claim another shard"
        )


def set_state(session: Session, run_id: UUID, seen: tuple[RunState, ...], **values: Any) -> bool:
    """Change a run if it is in one of the states `seen`; return whether it was."""
    return _changed(session, update(RunRow).where(RunRow.id == run_id, RunRow.state.in_(seen)).values(**values))


def end_failed(session: Session, run_id: UUID, reason: str, fault: Fault) -> None:
    """End a run as failed, unless it has ended already."""
    reason = _storable(reason)
    if set_state(session, run_id, ACTIVE, state=RunState.FAILED, error=reason, fault=fault, finished_at=now()):
        note(session, run_id, f"failed ({fault}): {reason}")


def count_failure(session: Session, shard: ShardRow, reason: str, fault: Fault, *, final: bool) -> None:
    """Count an attempt that came to nothing: queue the shard again, or end its run."""
    reason = _storable(reason)
    shard.failures += 1
    shard.error = reason
    shard.lease_expires = None
    note(session, shard.run_id, f"attempt {shard.attempt} of {spec_of(shard)} on {shard.worker} failed: {reason}")
    if not final and shard.failures < MAX_FAILURES:
        shard.state = ShardState.QUEUED
        return
    shard.state = ShardState.FAILED
    if not final:
        reason = f"{spec_of(shard)} failed {shard.failures} times, the last time because {reason}"
    end_failed(session, shard.run_id, reason, fault)


def expire(session: Session, run_id: UUID | None) -> int:
    """Count as failed, and queue again, the shards whose workers fell silent; return how many there were."""
    silent = session.scalars(shards(ShardState.RUNNING, run_id).where(ShardRow.lease_expires < now())).all()
    for shard in silent:
        reason = f"the worker {shard.worker} fell silent: it was killed, ran out of memory or lost its connection"
        count_failure(session, shard, reason, Fault.OURS, final=False)
    session.flush()
    return len(silent)


def document(result: ShardResult) -> str:
    """Return a report as JSON.

    Raises:
        InvalidResult: it holds something that JSON would change.
    """
    try:
        text = shard_to_json(result)
        unchanged = shard_from_json(text) == result
    except ValueError as error:  # pydantic's errors are ValueErrors
        raise InvalidResult(f"the report of {result.spec} cannot be written as JSON: {error}") from error
    if not unchanged:
        raise InvalidResult(
            f"the report of {result.spec} holds what JSON cannot (NaN, infinity, tuples); send lists of finite numbers"
        )
    return text


def _changed(session: Session, statement: Update) -> bool:
    outcome = session.execute(statement.execution_options(synchronize_session=False))
    assert isinstance(outcome, CursorResult)
    return outcome.rowcount == 1


def _storable(reason: str) -> str:
    """PostgreSQL refuses NUL; nobody reads more than 2000 characters."""
    return reason.replace("\x00", "\ufffd")[:2000]
