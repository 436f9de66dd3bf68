"""The record of training work: which recipe and seed, who trains it, and what shall be handed in (torch-free)."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from evaluator.exceptions import Fault, LostLease
from evaluator.protocol import from_json, to_json
from evaluator.store import steps
from evaluator.store.engine import Store, now, patient
from evaluator.store.records import HandIn, Queued, Role, ShardState, TrainingClaim, TrainingOrder, TrainingRecord
from evaluator.store.rows import HandInRow, TrainingRow
from evaluator.store.workers import may_work

_ORDER = (TrainingRow.queued_at, TrainingRow.seed, TrainingRow.name)


class TrainingStore(Store):
    """Trainings and what shall be handed in of them; `RunStore.create_tables` makes the tables."""

    @patient
    def queue(self, orders: Sequence[TrainingOrder]) -> Queued:
        """Queue what is not there yet: a training once a digest and seed, a hand-in once a snapshot and protocol.

        A training that failed waits again.
        """
        try:
            with self._writing() as session:
                return Queued(
                    trainings=sum([_add_training(session, order) for order in orders]),
                    hand_ins=sum([_add_hand_in(session, order) for order in orders]),
                )
        except IntegrityError:  # another process queued one of them meanwhile
            return self.queue(orders)

    @patient
    def trainings(self, *states: ShardState) -> tuple[TrainingRecord, ...]:
        """Return the trainings in any of `states` (in all states where none is named), oldest first."""
        query = select(TrainingRow).order_by(*_ORDER)
        if states:
            query = query.where(TrainingRow.state.in_(states))
        with self._reading() as session:
            return tuple(_record(row) for row in session.scalars(query))

    @patient
    def hand_ins(self) -> tuple[HandIn, ...]:
        """Return what shall be handed in of the trainings that are done.

        The best snapshot is the last one where no monitor has looked.
        """
        same = and_(TrainingRow.digest == HandInRow.digest, TrainingRow.seed == HandInRow.seed)
        best = case((HandInRow.snapshot == "best", TrainingRow.best_sha256))
        sha256 = func.coalesce(best, TrainingRow.final_sha256)
        query = select(sha256, HandInRow.title, HandInRow.protocol).join(TrainingRow, same)
        query = query.where(TrainingRow.state == ShardState.DONE).order_by(*_ORDER, HandInRow.title)
        with self._reading() as session:
            return tuple(HandIn(found, title, from_json(text)) for found, title, text in session.execute(query))

    @patient
    def claim(self, worker: str, *, lease_seconds: float = 60.0) -> TrainingClaim | None:
        """Return the oldest waiting training, or None if `worker` gets none; expired leases are queued again first."""
        with self._writing() as session:
            if not may_work(session, Role.TRAINING, worker):
                return None
            _expire(session)
            row = session.scalars(_locked(ShardState.QUEUED).limit(1)).first()
            if row is None:
                return None
            steps.take(row, worker, lease_seconds)
            session.flush()
            return TrainingClaim(
                row.digest,
                row.seed,
                row.attempt,
                worker,
                lease_seconds,
                row.recipe,
                row.saved_epoch,
                row.saved_sha256,
            )

    @patient
    def heartbeat(self, claim: TrainingClaim) -> None:
        """Extend the lease.

        Raises:
            LostLease: the training belongs to another attempt by now, or has ended.
        """
        with self._writing() as session:
            _swap(session, claim, lease_expires=now() + claim.lease_seconds)

    @patient
    def advance(self, claim: TrainingClaim, epoch: int) -> None:
        """Record how many epochs are done and extend the lease; who comes further than ever has not failed before.

        Raises:
            LostLease: as for `heartbeat`.
        """
        further = update(TrainingRow).where(_is(claim), TrainingRow.epochs_done < epoch)
        with self._writing() as session:
            _swap(session, claim, lease_expires=now() + claim.lease_seconds)
            steps.changed(session, further.values(epochs_done=epoch, failures=0))

    @patient
    def keep(self, claim: TrainingClaim, epoch: int, sha256: str) -> str | None:
        """Record where in the artifacts the state after `epoch` epochs lies; return the address that it replaces.

        Raises:
            LostLease: as for `heartbeat`.
        """
        query = select(TrainingRow.saved_sha256).where(_is(claim)).with_for_update()
        with self._writing() as session:
            replaced = session.scalars(query).one()
            _swap(session, claim, saved_epoch=epoch, saved_sha256=sha256)
            return replaced

    @patient
    def finish(self, claim: TrainingClaim, *, final_sha256: str, best_sha256: str | None) -> None:
        """Record what the training yielded; its state in the artifacts is forgotten.

        Raises:
            LostLease: as for `heartbeat`.
        """
        with self._writing() as session:
            _swap(
                session,
                claim,
                state=ShardState.DONE,
                epochs_done=TrainingRow.epochs,
                saved_epoch=None,
                saved_sha256=None,
                final_sha256=final_sha256,
                best_sha256=best_sha256,
                lease_expires=None,
                finished_at=now(),
                error=None,
            )

    @patient
    def release(self, claim: TrainingClaim) -> None:
        """Hand a training back; it does not count as a failure.

        Raises:
            LostLease: as for `heartbeat`.
        """
        with self._writing() as session:
            _swap(session, claim, state=ShardState.QUEUED, lease_expires=None)

    @patient
    def fail(self, claim: TrainingClaim, error: Exception) -> None:
        """Record why an attempt failed: what a retry cannot help ends the training, anything else is tried again.

        Raises:
            LostLease: as for `heartbeat`.
        """
        with self._writing() as session:
            _swap(session, claim, lease_expires=None)
            _count_failure(session.get_one(TrainingRow, (claim.digest, claim.seed)), steps.failure_of(error))

    @patient
    def cancel(self, digest: str, seed: int) -> bool:
        """End a training that waits or runs as failed; return whether it did. Queued again, it goes on where it was.

        Whoever trains it notices at the end of the epoch.
        """
        waits_or_runs = TrainingRow.state.in_((ShardState.QUEUED, ShardState.RUNNING))
        query = update(TrainingRow).where(TrainingRow.digest == digest, TrainingRow.seed == seed, waits_or_runs)
        with self._writing() as session:
            return steps.changed(
                session,
                query.values(
                    state=ShardState.FAILED,
                    lease_expires=None,
                    finished_at=now(),
                    error="cancelled; queue it again to go on",
                    fault=Fault.OPERATOR,
                ),
            )

    @patient
    def expire(self) -> int:
        """Queue again, as failed once more, what silent workers held; return how many there were."""
        with self._writing() as session:
            return _expire(session)


def _add_training(session: Session, order: TrainingOrder) -> bool:
    row = session.get(TrainingRow, (order.digest, order.seed), with_for_update=True)
    if row is None:
        row = TrainingRow(digest=order.digest, seed=order.seed)
        session.add(row)
    elif row.state is not ShardState.FAILED:
        return False
    row.name, row.recipe, row.epochs = order.name, order.recipe, order.epochs
    row.state, row.failures, row.error, row.fault, row.queued_at = ShardState.QUEUED, 0, None, None, now()
    session.flush()
    return True


def _add_hand_in(session: Session, order: TrainingOrder) -> bool:
    key = (order.digest, order.seed, order.snapshot, order.protocol.digest)
    if session.get(HandInRow, key) is not None:
        return False
    row = HandInRow(title=order.title, protocol=to_json(order.protocol))
    row.digest, row.seed, row.snapshot, row.protocol_digest = key
    session.add(row)
    session.flush()
    return True


def _locked(state: ShardState) -> Select[TrainingRow]:
    query = select(TrainingRow).where(TrainingRow.state == state).order_by(*_ORDER)
    return query.with_for_update(skip_locked=True)


def _expire(session: Session) -> int:
    silent = session.scalars(_locked(ShardState.RUNNING).where(TrainingRow.lease_expires < now())).all()
    for row in silent:
        _count_failure(row, steps.silence(row))
    session.flush()
    return len(silent)


def _count_failure(row: TrainingRow, failure: steps.Failure) -> None:
    if steps.fail_once(row, failure):
        row.fault, row.finished_at = failure.fault, now()


def _is(claim: TrainingClaim) -> ColumnElement[bool]:
    return and_(TrainingRow.digest == claim.digest, TrainingRow.seed == claim.seed)


def _swap(session: Session, claim: TrainingClaim, **values: Any) -> None:
    held = update(TrainingRow).where(_is(claim), steps.held(TrainingRow, claim.attempt))
    if not steps.changed(session, held.values(**values)):
        raise LostLease(
            f"attempt {claim.attempt} no longer holds the training {claim.digest[:12]} with seed {claim.seed}: its "
            "lease expired, or it ended; this report is refused, claim another training"
        )


def _record(row: TrainingRow) -> TrainingRecord:
    return TrainingRecord(
        digest=row.digest,
        seed=row.seed,
        name=row.name,
        epochs=row.epochs,
        epochs_done=row.epochs_done,
        saved_epoch=row.saved_epoch,
        saved_sha256=row.saved_sha256,
        state=row.state,
        attempt=row.attempt,
        worker=row.worker,
        error=row.error,
        fault=row.fault,
        final_sha256=row.final_sha256,
        best_sha256=row.best_sha256,
    )
