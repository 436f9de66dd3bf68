"""The steps that the run store's transactions are made of (torch-free).

Shards are locked before their run, and shards that somebody else holds are skipped, so no two transactions wait
for each other. Ending a run touches none of its shards: those of an ended run are simply never claimed.
"""

from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, CursorResult, Select, Update, and_, exists, select, update
from sqlalchemy.orm import Session

from evaluator.exceptions import EvaluatorError, Fault, InvalidResult, LostLease
from evaluator.plan import plan
from evaluator.protocol import EvaluationProtocol, to_json
from evaluator.results import ShardResult, ShardSpec, shard_from_json, shard_to_json
from evaluator.store.engine import now
from evaluator.store.records import ACTIVE, Claim, RunState, ShardState
from evaluator.store.rows import NO_SAMPLE, EventRow, Leased, RunRow, ShardRow, StageRow

MAX_FAILURES = 3
"""A shard whose attempts came to nothing this often ends its run."""


class Failure(NamedTuple):
    """Why an attempt came to nothing, who has to act, and whether another attempt is in vain."""

    reason: str
    fault: Fault
    final: bool


def failure_of(error: Exception) -> Failure:
    """Return what an error means for the attempt that met it: what is ours is tried again."""
    if not isinstance(error, EvaluatorError):
        return Failure(f"{type(error).__name__}: {error}", Fault.OURS, final=False)
    return Failure(str(error), error.fault, final=error.fault is not Fault.OURS and not error.retry_helps)


def take(row: Leased, worker: str, lease_seconds: float) -> None:
    """Give a row to `worker`; the attempt's number is the fence."""
    row.state = ShardState.RUNNING
    row.attempt += 1
    row.worker = worker
    row.claimed_at = now()
    row.lease_expires = now() + lease_seconds


def held(kind: type[Leased], attempt: int) -> ColumnElement[bool]:
    """Select the row of an attempt that still holds it."""
    return and_(kind.attempt == attempt, kind.state == ShardState.RUNNING)


def silence(row: Leased) -> Failure:
    """Return why a lease expired."""
    return Failure(
        f"the worker {row.worker} fell silent: it was killed, ran out of memory or lost its connection",
        Fault.OURS,
        final=False,
    )


def fail_once(row: Leased, failure: Failure) -> bool:
    """Count an attempt that came to nothing and queue the row again; return whether it has failed for good instead."""
    row.failures += 1
    row.error = storable(failure.reason)
    row.lease_expires = None
    ended = failure.final or row.failures >= MAX_FAILURES
    row.state = ShardState.FAILED if ended else ShardState.QUEUED
    return ended


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
    shard = update(ShardRow).where(
        ShardRow.run_id == claim.run_id,
        ShardRow.position == claim.position,
        held(ShardRow, claim.attempt),
        active,
    )
    if not changed(session, shard.values(**values)):
        raise LostLease(
            f"attempt {claim.attempt} no longer holds {claim.spec} of run {claim.run_id}: its lease expired, "
            f"it reported already, or the run ended; this report is refused, claim another shard"
        )


def set_state(session: Session, run_id: UUID, seen: tuple[RunState, ...], **values: Any) -> bool:
    """Change a run if it is in one of the states `seen`; return whether it was."""
    return changed(session, update(RunRow).where(RunRow.id == run_id, RunRow.state.in_(seen)).values(**values))


def end_failed(session: Session, run_id: UUID, reason: str, fault: Fault) -> None:
    """End a run as failed, unless it has ended already."""
    reason = storable(reason)
    if set_state(session, run_id, ACTIVE, state=RunState.FAILED, error=reason, fault=fault, finished_at=now()):
        note(session, run_id, f"failed ({fault}): {reason}")


def count_failure(session: Session, shard: ShardRow, failure: Failure) -> None:
    """Count an attempt that came to nothing: queue the shard again, or end its run."""
    ended = fail_once(shard, failure)
    note(session, shard.run_id, f"attempt {shard.attempt} of {spec_of(shard)} on {shard.worker} failed: {shard.error}")
    if ended:
        often = f"{spec_of(shard)} failed {shard.failures} times, the last time because {failure.reason}"
        end_failed(session, shard.run_id, failure.reason if failure.final else often, failure.fault)


def expire(session: Session, run_id: UUID | None) -> int:
    """Count as failed, and queue again, the shards whose workers fell silent; return how many there were."""
    silent = session.scalars(shards(ShardState.RUNNING, run_id).where(ShardRow.lease_expires < now())).all()
    for shard in silent:
        count_failure(session, shard, silence(shard))
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


def changed(session: Session, statement: Update) -> bool:
    """Return whether a statement met its one row."""
    outcome = session.execute(statement.execution_options(synchronize_session=False))
    assert isinstance(outcome, CursorResult)
    return outcome.rowcount == 1


def storable(reason: str) -> str:
    """PostgreSQL refuses NUL; nobody reads more than 2000 characters."""
    return reason.replace("\x00", "\ufffd")[:2000]
