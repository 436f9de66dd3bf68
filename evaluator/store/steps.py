"""The steps that the run store's transactions are made of (torch-free).

Shards are locked before their run, and shards that somebody else holds are skipped, so no two transactions wait
for each other. Ending a run touches none of its shards: those of an ended run are simply never claimed.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Select,
    SQLColumnExpression,
    Update,
    and_,
    bindparam,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.orm import Session, aliased

from evaluator.exceptions import EvaluatorError, Fault, InvalidResult, LostLease, ShardTimeout, WorkerSilent
from evaluator.metrics import StageName
from evaluator.plan import NEEDS, Cost, cut, plan
from evaluator.protocol import EvaluationProtocol
from evaluator.results import ShardResult, ShardSpec, shard_from_json, shard_to_json
from evaluator.store.engine import now
from evaluator.store.records import ACTIVE, Claim, RunState, ShardState
from evaluator.store.rows import (
    MEASURED,
    NO_SAMPLE,
    AuditRow,
    EventRow,
    Leased,
    Measurable,
    RefutedRow,
    RunRow,
    ShardRow,
    StageRow,
)
from evaluator.types import Split

MAX_FAILURES = 3
"""A shard whose attempts came to nothing this often ends its run."""

_RUNS_TRIED = 16
"""Of how many runs a shard is looked for, where other claims hold those of the first ones."""


Query = TypeVar("Query", bound=Select[*tuple[Any, ...]])


class Failure(NamedTuple):
    """Why an attempt came to nothing, who has to act, and whether another attempt is in vain."""

    reason: str
    kind: str
    fault: Fault
    final: bool
    log: str = ""


def failure_of(error: Exception) -> Failure:
    """Return what an error means for the attempt that met it: what is ours is tried again."""
    kind = type(error).__name__
    if not isinstance(error, EvaluatorError):
        return Failure(f"{kind}: {error}", kind, Fault.OURS, final=False)
    final = error.fault is not Fault.OURS and not error.retry_helps
    return Failure(str(error), kind, error.fault, final, error.log)


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
    return failure_of(
        WorkerSilent(f"the worker {row.worker} fell silent: it was killed, ran out of memory or lost its connection")
    )


def fail_once(row: Leased, failure: Failure) -> bool:
    """Count an attempt that came to nothing and queue the row again; return whether it has failed for good instead."""
    row.failures += 1
    row.error = storable(failure.reason)
    row.lease_expires = None
    ended = failure.final or row.failures >= MAX_FAILURES
    row.state = ShardState.FAILED if ended else ShardState.QUEUED
    return ended


def plan_run(session: Session, run: RunRow, protocol: EvaluationProtocol, *, preview: bool) -> None:
    """Add a queued run with all its stages, and a preview where one is wanted, each of them uncut."""
    specs = plan(protocol, preview=preview)
    session.add(run)
    session.flush()
    planned = {spec.stage for spec in specs}
    shown = [(stage, split) for stage in StageName for split in Split]
    for stage, split in dict.fromkeys((spec.stage, spec.split) for spec in specs):
        needs = NEEDS.get(stage) if NEEDS.get(stage) in planned else None
        position = shown.index((stage, split))
        session.add(StageRow(run_id=run.id, stage=stage, split=split, position=position, needs=needs))
    session.flush()
    position = 0
    for spec in specs:
        session.add(_shard(run.id, position, spec))
        position += len(spec)
    note(session, run.id, f"queued: {protocol.label}, {position} examples over all stages")


def _shard(run_id: UUID, position: int, spec: ShardSpec) -> ShardRow:
    return ShardRow(
        run_id=run_id,
        position=position,
        stage=spec.stage,
        split=spec.split,
        start=spec.start,
        stop=spec.stop,
        weight_sample=NO_SAMPLE if spec.weight_sample is None else spec.weight_sample,
        state=ShardState.QUEUED,
    )


def note(session: Session, run_id: UUID, line: str) -> None:
    """Add a line to the run's log."""
    session.add(EventRow(run_id=run_id, at=now(), text=line))


def runs_in_turn(session: Session, run_id: UUID | None, worker: str) -> Sequence[UUID]:
    """Return the runs of which `worker` can claim a shard, at most `_RUNS_TRIED`, in the order of their turns.

    High priority first; then those of the owner for whom the fewest shards are being measured; then the oldest.
    """
    return session.scalars(_runs_in_turn(run_id is not None), {"asked": run_id, "worker": worker}).all()


def next_shard(session: Session, run_id: UUID) -> ShardRow | None:
    """Return the first shard of a run that can be claimed, locked, or None; what others hold is skipped."""
    return session.scalars(_next_shard(), {"asked": run_id}).first()


@cache  # statements are made once: making them takes longer than executing them
def _runs_in_turn(one: bool) -> Select[UUID]:
    query = select(RunRow.id).where(RunRow.state.in_(ACTIVE), trusted(bindparam("worker")))
    query = query.where(exists().where(ShardRow.run_id == RunRow.id, _claimable()))
    if one:
        query = query.where(RunRow.id == bindparam("asked"))
    return in_turn(query).limit(_RUNS_TRIED)


def trusted(worker: SQLColumnExpression[str]) -> ColumnElement[bool]:
    """Select the runs of which no report of `worker` was refuted."""
    return ~exists().where(RefutedRow.run_id == RunRow.id, RefutedRow.worker == worker).correlate_except(RefutedRow)


def in_turn(runs: Query) -> Query:
    """Order runs as they are served."""
    busy = (
        select(RunRow.owner, func.count().label("shards"))
        .join(ShardRow, ShardRow.run_id == RunRow.id)
        .where(ShardRow.state == ShardState.RUNNING, RunRow.state.in_(ACTIVE))
        .group_by(RunRow.owner)
        .subquery()
    )
    order = RunRow.priority.desc(), func.coalesce(busy.c.shards, 0), RunRow.created_at, RunRow.id
    return runs.outerjoin(busy, busy.c.owner == RunRow.owner).order_by(*order)


@cache
def _next_shard() -> Select[ShardRow]:
    query = select(ShardRow).where(ShardRow.run_id == bindparam("asked"), _claimable()).order_by(ShardRow.position)
    return query.limit(1).with_for_update(skip_locked=True)


def _claimable() -> ColumnElement[bool]:
    """Select shards that wait and whose stage needs no other that is undone."""
    other = aliased(ShardRow)
    blocked = (
        exists()
        .where(StageRow.run_id == ShardRow.run_id, StageRow.stage == ShardRow.stage, StageRow.split == ShardRow.split)
        .where(other.run_id == ShardRow.run_id, other.stage == StageRow.needs, other.state != ShardState.DONE)
        .correlate(ShardRow)
    )
    return and_(ShardRow.state == ShardState.QUEUED, ~blocked)


def cut_to(session: Session, shard: ShardRow, protocol: EvaluationProtocol, worker: str, target_seconds: float) -> None:
    """Shorten a waiting shard to what `worker` should need `target_seconds` for, and queue the rest of it."""
    last = session.execute(_last_cost(), {"run": shard.run_id, "stage": shard.stage, "worker": worker}).first()
    cost = None if last is None else Cost(last[0], last[1] or 0.0)
    spec, rest = cut(protocol, spec_of(shard), last=cost, target_seconds=target_seconds)
    position = shard.position + len(spec)
    # A run that an older version planned may have that position already; then the shard stays whole.
    if rest is None or session.get(ShardRow, (shard.run_id, position)) is not None:
        return
    shard.stop = spec.stop
    session.add(_shard(shard.run_id, position, rest))


@cache
def _last_cost() -> Select[int, float | None]:
    done = select(ShardRow.stop - ShardRow.start, ShardRow.seconds)
    done = done.where(ShardRow.run_id == bindparam("run"), ShardRow.stage == bindparam("stage"))
    done = done.where(ShardRow.worker == bindparam("worker"), ShardRow.state == ShardState.DONE)
    return done.where(ShardRow.seconds.is_not(None)).order_by(ShardRow.finished_at.desc()).limit(1)


def spec_of(shard: Measurable) -> ShardSpec:
    """Return what a shard, or a piece of it that is measured again, asks for."""
    sample = None if shard.weight_sample == NO_SAMPLE else shard.weight_sample
    return ShardSpec(shard.stage, shard.split, shard.start, shard.stop, sample)


def swap(session: Session, claim: Claim, **values: Any) -> None:
    """Change the claimed shard if the claim still holds it.

    Raises:
        LostLease: it does not.
    """
    active = exists().where(RunRow.id == claim.run_id, RunRow.state.in_(ACTIVE))
    kind = AuditRow if claim.audit else ShardRow
    row = update(kind).where(kind.run_id == claim.run_id, kind.position == claim.position)
    row = row.where(held(kind, claim.attempt), active)
    if claim.audit:
        row = row.where(AuditRow.number == claim.audit)
    if not changed(session, row.values(**values)):
        raise LostLease(
            f"attempt {claim.attempt} no longer holds {claim.spec} of run {claim.run_id}: its lease expired, "
            f"it reported already, or the run ended; this report is refused, claim another shard"
        )


def set_state(session: Session, run_id: UUID, seen: tuple[RunState, ...], **values: Any) -> bool:
    """Change a run if it is in one of the states `seen`; return whether it was."""
    return changed(session, update(RunRow).where(RunRow.id == run_id, RunRow.state.in_(seen)).values(**values))


def end_failed(session: Session, run_id: UUID, failure: Failure) -> None:
    """End a run as failed, unless it has ended already."""
    reason, fault = storable(failure.reason), failure.fault
    values = {"error": reason, "fault": fault, "failure": failure.kind, "finished_at": now()}
    if set_state(session, run_id, ACTIVE, state=RunState.FAILED, **values):
        note(session, run_id, f"failed ({failure.kind}, {fault}): {reason}")


def claimed(session: Session, claim: Claim) -> ShardRow | AuditRow:
    """Return the row of a claim."""
    if claim.audit:
        return session.get_one(AuditRow, (claim.run_id, claim.position, claim.audit))
    return session.get_one(ShardRow, (claim.run_id, claim.position))


def count_failure(session: Session, shard: ShardRow | AuditRow, failure: Failure) -> None:
    """Count an attempt that came to nothing: queue the shard again, or end its run."""
    if shard.stage is StageName.PREVIEW and failure.kind == ShardTimeout.__name__:
        failure = failure._replace(final=True)  # what came to nothing for so long is not worth as long again
    ended = fail_once(shard, failure)
    if failure.log:
        set_state(session, shard.run_id, ACTIVE, log=storable(failure.log))
    note(session, shard.run_id, f"attempt {shard.attempt} of {spec_of(shard)} on {shard.worker} failed: {shard.error}")
    if ended and shard.stage is StageName.PREVIEW:
        note(session, shard.run_id, "there will be no preview; the run goes on without it")
    elif ended:
        often = f"{spec_of(shard)} failed {shard.failures} times, the last time because {failure.reason}"
        end_failed(session, shard.run_id, failure if failure.final else failure._replace(reason=often))


def undone(run_id: UUID) -> ColumnElement[bool]:
    """Tell whether anything of a run is still to be measured; it waits for no preview."""
    left = exists().where(ShardRow.run_id == run_id, ShardRow.state != ShardState.DONE)
    return left.where(ShardRow.stage != StageName.PREVIEW)


def expire(session: Session, run_id: UUID | None) -> int:
    """Count as failed, and queue again, the shards whose workers fell silent; return how many there were."""
    silent = [row for kind in MEASURED for row in session.scalars(_silent(kind, run_id is not None), {"asked": run_id})]
    for row in silent:
        count_failure(session, row, silence(row))
    session.flush()
    return len(silent)


@cache
def _silent(kind: type[ShardRow] | type[AuditRow], one: bool) -> Select[Any]:
    query = select(kind).join(RunRow, RunRow.id == kind.run_id)
    query = query.where(RunRow.state.in_(ACTIVE), kind.state == ShardState.RUNNING, kind.lease_expires < now())
    if one:
        query = query.where(kind.run_id == bindparam("asked"))
    return query.with_for_update(of=kind, skip_locked=True)


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
    """PostgreSQL refuses NUL; nobody reads more than 4000 characters."""
    return reason.replace("\x00", "\ufffd")[:4000]
