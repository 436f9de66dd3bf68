"""Random re-evaluation in the run store: which pieces are drawn, who measures them, what follows (torch-free).

Audits are drawn when all shards of a run are done, so that nobody can know beforehand. They are claimed as shards are,
under the same leases, by others than those who measured the piece before. `evaluator.audits` judges what they find.
"""

import random
from collections.abc import Sequence
from functools import cache
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Double,
    Select,
    SQLColumnExpression,
    String,
    bindparam,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session, aliased, undefer

from evaluator.audits import Judgement, Measured, Outcome, draw, judge, part_of
from evaluator.exceptions import ReportsDisagree
from evaluator.protocol import from_json
from evaluator.results import ShardSpec, shard_from_json
from evaluator.store import steps
from evaluator.store.engine import now
from evaluator.store.records import Role, RunState, ShardState
from evaluator.store.rows import NO_SAMPLE, AuditRow, RefutedRow, RunRow, ShardRow, WorkerRow

RESERVED_LEASES = 10
"""After so many leases anybody may measure a piece again, however alive the others seem: they may serve other work."""

_ALIVE_LEASES = 2
"""Who announced itself within so many leases is alive; workers do so four times a lease."""

Piece = tuple[Measured, ...]
"""All measurements of a piece, the reported one first."""


def next_audit(session: Session, run_id: UUID | None, worker: str, lease_seconds: float) -> AuditRow | None:
    """Return the first piece that `worker` may measure again, locked, or None; what others hold is skipped."""
    asked = {"asked": run_id, "worker": worker, "lease": abs(lease_seconds)}
    return session.scalars(_next_audit(run_id is not None), asked).first()


@cache
def waiting(one: bool) -> Select[int]:
    """Select one piece that waits to be measured again, whoever will have it, but for refuted workers."""
    query = select(AuditRow.position).join(RunRow, RunRow.id == AuditRow.run_id)
    query = query.where(RunRow.state == RunState.RUNNING, AuditRow.state == ShardState.QUEUED)
    query = query.where(steps.trusted(bindparam("worker"))).limit(1)
    return query.where(RunRow.id == bindparam("asked")) if one else query


def settle(session: Session, run_id: UUID, chance: random.Random) -> tuple[Piece, ...] | None:
    """Bring the audits of a run whose shards are done one step further; return its pieces once all of them agree.

    None while anything is to be measured, or when the run has failed. A run that is not audited has no pieces.
    """
    run = session.get_one(RunRow, run_id, with_for_update=True)
    if run.state is not RunState.RUNNING or session.scalar(select(steps.undone(run_id))):
        return None
    if not run.audit_share:
        return ()
    first = _first_number(session, run_id)
    rows = session.scalars(
        select(AuditRow)
        .where(AuditRow.run_id == run_id, AuditRow.number >= first)
        .order_by(AuditRow.position, AuditRow.number)
        .options(undefer(AuditRow.result))
    ).all()
    if not rows:
        _draw(session, run, first, chance)
        return None
    if any(row.state is not ShardState.DONE for row in rows):
        return None
    pieces: dict[int, list[AuditRow]] = {}
    for row in rows:
        pieces.setdefault(row.position, []).append(row)
    measured = {position: _measured(session, audits) for position, audits in pieces.items()}
    judged = {position: judge(piece) for position, piece in measured.items()}
    if all(judgement.outcome is Outcome.AGREED for judgement in judged.values()):
        return tuple(measured.values())
    refuted = sorted({judgement.wrong for judgement in judged.values() if judgement.wrong is not None})
    for worker in refuted:
        _refute(session, run_id, worker)
    if refuted:  # a worker that was refuted as an auditor alone leaves all shards done
        return settle(session, run_id, chance)
    _act(session, run_id, {position: audits[-1] for position, audits in pieces.items()}, judged)
    return None


def _first_number(session: Session, run_id: UUID) -> int:
    """Return the number of first repetitions: after each refutation another, so that no old claim holds a new piece."""
    refuted = session.scalars(select(func.count()).select_from(RefutedRow).where(RefutedRow.run_id == run_id)).one()
    return 2 * refuted + 1


def _draw(session: Session, run: RunRow, number: int, chance: random.Random) -> None:
    shards = session.scalars(select(ShardRow).filter_by(run_id=run.id).order_by(ShardRow.position)).all()
    positions = {steps.spec_of(shard): shard.position for shard in shards}
    drawn = draw(from_json(run.protocol), list(positions), run.audit_share, chance)
    for spec, piece in drawn:
        _queue(session, run.id, positions[spec], number, piece)
    steps.note(session, run.id, f"measured; {len(drawn)} of {len(shards)} shards were drawn to be measured again")


def _queue(session: Session, run_id: UUID, position: int, number: int, piece: ShardSpec) -> None:
    session.add(
        AuditRow(
            run_id=run_id,
            position=position,
            number=number,
            stage=piece.stage,
            split=piece.split,
            start=piece.start,
            stop=piece.stop,
            weight_sample=NO_SAMPLE if piece.weight_sample is None else piece.weight_sample,
            state=ShardState.QUEUED,
            queued_at=now(),
        )
    )


def _measured(session: Session, audits: Sequence[AuditRow]) -> Piece:
    key = audits[0].run_id, audits[0].position
    shard = session.get_one(ShardRow, key, options=[undefer(ShardRow.result)])
    piece = steps.spec_of(audits[0])
    rows: list[ShardRow | AuditRow] = [shard, *audits]
    return tuple(Measured(str(row.worker), part_of(shard_from_json(str(row.result)), piece)) for row in rows)


def _act(session: Session, run_id: UUID, last: dict[int, AuditRow], judged: dict[int, Judgement]) -> None:
    """Where two disagree, let a third measurement decide; where three do, end the run."""
    for position, judgement in judged.items():
        audit = last[position]
        piece = steps.spec_of(audit)
        if judgement.outcome is Outcome.UNDECIDED:
            reason = f"measured three times, {piece} gave outcomes of which no two workers agree; look at the workers"
            steps.end_failed(session, run_id, steps.failure_of(ReportsDisagree(f"{reason} that the log names")))
            return
        if judgement.outcome is Outcome.AGAIN:
            _queue(session, run_id, position, audit.number + 1, piece)
            steps.note(session, run_id, f"{audit.worker} disagrees with what was reported of {piece}: a third decides")


def _refute(session: Session, run_id: UUID, worker: str) -> None:
    """Queue again all that a worker reported of a run, and give it no more of that run."""
    theirs = update(ShardRow).where(ShardRow.run_id == run_id, ShardRow.worker == worker)
    session.execute(
        theirs.values(state=ShardState.QUEUED, result=None, seconds=None, finished_at=None, lease_expires=None),
        execution_options={"synchronize_session": False},
    )
    session.add(RefutedRow(run_id=run_id, worker=worker, at=now()))
    steps.note(session, run_id, f"{worker} was refuted by two others: all that it reported is measured again by others")


@cache
def _next_audit(one: bool) -> Select[AuditRow]:
    worker, lease = bindparam("worker", type_=String), bindparam("lease", type_=Double)
    others = (
        exists()
        .where(WorkerRow.role == Role.EVALUATION.value, WorkerRow.seen_at > now() - _ALIVE_LEASES * lease)
        .where(WorkerRow.name != worker, WorkerRow.draining.is_(False))
        .where(steps.trusted(WorkerRow.name), ~_has_measured(WorkerRow.name))
        .correlate_except(WorkerRow)
    )
    late = AuditRow.queued_at < now() - RESERVED_LEASES * lease
    query = select(AuditRow).join(RunRow, RunRow.id == AuditRow.run_id)
    query = query.where(RunRow.state == RunState.RUNNING, AuditRow.state == ShardState.QUEUED, steps.trusted(worker))
    query = query.where(or_(~_has_measured(worker), ~others, late))
    if one:
        query = query.where(RunRow.id == bindparam("asked"))
    order = RunRow.priority.desc(), RunRow.created_at, RunRow.id, AuditRow.position
    return query.order_by(*order).limit(1).with_for_update(of=AuditRow, skip_locked=True)


def _has_measured(worker: SQLColumnExpression[str]) -> ColumnElement[bool]:
    """Select the pieces of which a worker reported the shard, or whose first repetition it made."""
    other = aliased(AuditRow)
    reported = exists().where(
        ShardRow.run_id == AuditRow.run_id, ShardRow.position == AuditRow.position, ShardRow.worker == worker
    )
    again = exists().where(other.run_id == AuditRow.run_id, other.position == AuditRow.position)
    again = again.where(AuditRow.number % 2 == 0, other.number == AuditRow.number - 1, other.worker == worker)
    return or_(reported.correlate_except(ShardRow), again.correlate_except(other))
