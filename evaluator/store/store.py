"""The record of evaluation work: runs, shards, leases (torch-free)."""

import logging
import math
import random
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import literal, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from evaluator.audits import finding
from evaluator.combine import check, check_against_clean, combine
from evaluator.exceptions import InvalidRequest, InvalidResult
from evaluator.metrics import StageName
from evaluator.protocol import EvaluationProtocol, from_json, to_json
from evaluator.report_checks import check_labels, check_starts, check_values
from evaluator.results import EvaluationResult, ShardResult, evaluation_to_json
from evaluator.store import audits, steps
from evaluator.store.engine import add_what_is_missing, now, patient
from evaluator.store.reading import SUMMARY, RunReader
from evaluator.store.records import ACTIVE, Claim, Role, RunRecord, RunState, ShardState, Sweep
from evaluator.store.rows import MEASURED, AuditRow, Row, RunRow, ShardRow, StageRow
from evaluator.store.status import StatusReader
from evaluator.store.turns import TurnReader
from evaluator.store.workers import may_work

_TABLES_LOCK = 5_261_204
"""Key of PostgreSQL's advisory lock while tables are made; any constant of ours."""

log = logging.getLogger(__name__)


class RunStore(RunReader, StatusReader, TurnReader):
    """Runs and their shards. `chance` draws what is measured again; workers must not foresee it."""

    chance: random.Random = random.SystemRandom()

    @patient
    def create_tables(self) -> None:
        """Create the tables and columns that are missing; safe when several processes do it at once."""
        with self.engine.begin() as connection:
            if self.engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _TABLES_LOCK})
            Row.metadata.create_all(connection)
            add_what_is_missing(connection, Row.metadata)

    @patient
    def create_run(
        self,
        run_id: UUID,
        protocol: EvaluationProtocol,
        checkpoint_sha256: str,
        *,
        limit: int | None = None,
        owner: str = "",
        priority: int = 0,
        audit_share: float = 0.0,
        preview: bool = False,
    ) -> bool:
        """Plan a run and queue all its shards; return False when it exists already.

        Workers serve runs of high `priority` first, and among equals the `owner` for whom they do least at the time.
        Unless `audit_share` is 0, about that share of the shards, at least one, is measured again before it completes.
        A `preview` is made first of all, where AutoAttack measures test examples (see `preview`).

        Raises:
            InvalidRequest: the run exists with another protocol, limit or checkpoint.
        """
        protocol = protocol.limited(limit)
        try:
            with self._writing() as session:
                known = session.get(RunRow, run_id)
                if known is None:
                    run = RunRow(
                        id=run_id,
                        protocol=to_json(protocol),
                        protocol_digest=protocol.digest,
                        dataset=protocol.dataset,
                        checkpoint_sha256=checkpoint_sha256,
                        limit=limit,
                        state=RunState.QUEUED,
                        created_at=now(),
                        owner=owner,
                        priority=priority,
                        audit_share=audit_share,
                    )
                    steps.plan_run(session, run, protocol, preview=preview)
                    return True
        except IntegrityError:  # another process created it since `get`
            return self.create_run(
                run_id,
                protocol,
                checkpoint_sha256,
                limit=limit,
                owner=owner,
                priority=priority,
                audit_share=audit_share,
                preview=preview,
            )
        if (known.protocol_digest, known.checkpoint_sha256) != (protocol.digest, checkpoint_sha256):
            raise InvalidRequest(
                f"run {run_id} exists with protocol digest {known.protocol_digest} on checkpoint "
                f"{known.checkpoint_sha256}; another measurement needs another run id"
            )
        return False

    @patient
    def claim(
        self,
        worker: str,
        *,
        run_id: UUID | None = None,
        lease_seconds: float = 60.0,
        target_seconds: float | None = None,
    ) -> Claim | None:
        """Return the next shard for `worker`, or None when there is none that it may have now (see `waits`).

        What is measured again comes first: a run waits for no more than that. A shard is cut so that this worker should
        need `target_seconds` for it, judging by its last one of the stage; the rest waits. Without a target it stays
        whole. Leases found expired are queued again first, so a dead worker's shard is the next attempt's.
        """
        with self._writing() as session:
            if not may_work(session, Role.EVALUATION, worker):
                return None
            steps.expire(session, run_id)
            shard = audits.next_audit(session, run_id, worker, lease_seconds) or self._next_shard(
                session, run_id, worker
            )
            if shard is None:
                return None
            run = session.get_one(RunRow, shard.run_id)
            protocol = from_json(run.protocol)
            if target_seconds is not None and isinstance(shard, ShardRow):
                steps.cut_to(session, shard, protocol, worker, target_seconds)
            steps.take(shard, worker, lease_seconds)
            first = run.state is RunState.QUEUED
            if first and steps.set_state(session, run.id, (RunState.QUEUED,), state=RunState.RUNNING, started_at=now()):
                steps.note(session, run.id, f"started by {worker}")
            return Claim(
                run_id=run.id,
                position=shard.position,
                attempt=shard.attempt,
                failures=shard.failures,
                worker=worker,
                lease_seconds=lease_seconds,
                spec=steps.spec_of(shard),
                protocol=protocol,
                checkpoint_sha256=run.checkpoint_sha256,
                audit=shard.number if isinstance(shard, AuditRow) else 0,
            )

    @patient
    def waits(self, worker: str, *, run_id: UUID | None = None) -> bool:
        """Whether `worker` should ask again soon: a shard waits, but needs another stage, or is being handed out.

        Or a piece is to be measured again, and others go before.
        """
        query = select(ShardRow.position).join(RunRow, RunRow.id == ShardRow.run_id)
        query = query.where(ShardRow.state == ShardState.QUEUED, RunRow.state.in_(ACTIVE))
        query = query.where(steps.trusted(literal(worker)))
        if run_id is not None:
            query = query.where(RunRow.id == run_id)
        again = audits.waiting(run_id is not None), {"asked": run_id, "worker": worker}
        with self._reading() as session:
            if not may_work(session, Role.EVALUATION, worker):
                return False
            return session.scalar(query.limit(1)) is not None or session.scalar(*again) is not None

    @patient
    def heartbeat(self, claim: Claim) -> None:
        """Extend the lease.

        Raises:
            LostLease: the shard belongs to another attempt by now, or its run has ended.
        """
        with self._writing() as session:
            steps.swap(session, claim, lease_expires=now() + claim.lease_seconds)

    @patient
    def finish(self, claim: Claim, result: ShardResult) -> None:
        """Record the report of a shard.

        Raises:
            InvalidResult: the report is for another shard, malformed, contradicts itself or what is known of the same
                examples, or holds what JSON cannot (NaN, infinity).
            LostLease: the shard belongs to another attempt by now, is done already, or its run has ended.
        """
        if result.spec != claim.spec:
            raise InvalidResult(
                f"the report is for {result.spec}, but the claim for {claim.spec}; send the claimed one"
            )
        check(claim.protocol, result)
        check_values(claim.protocol, result)
        document = steps.document(result)
        if result.spec.stage is StageName.CLEAN:
            check_labels(result, self.known_labels(claim.run_id, result.spec))
        attacked = result.spec.stage in (StageName.AUTOATTACK, StageName.PREVIEW)
        if attacked and not claim.audit:  # a piece that is measured again is compared with what was reported
            _check_attacked(result, self.shard_results(claim.run_id, StageName.CLEAN))
        done = {"state": ShardState.DONE, "result": document, "seconds": result.seconds, "finished_at": now()}
        with self._writing() as session:
            steps.swap(session, claim, lease_expires=None, **done)

    @patient
    def release(self, claim: Claim) -> None:
        """Hand a shard back unmeasured; it does not count as a failure.

        Raises:
            LostLease: as for `heartbeat`.
        """
        with self._writing() as session:
            steps.swap(session, claim, state=ShardState.QUEUED, lease_expires=None)

    @patient
    def fail(self, claim: Claim, error: Exception) -> None:
        """Record why an attempt failed: what a retry cannot help ends the run, anything else is tried again.

        Raises:
            LostLease: as for `heartbeat`.
        """
        with self._writing() as session:
            steps.swap(session, claim, state=ShardState.QUEUED, lease_expires=None)
            steps.count_failure(session, steps.claimed(session, claim), steps.failure_of(error))

    @patient
    def prioritise(self, run_id: UUID, priority: int) -> bool:
        """Give a run that has not ended another priority; False when there is none."""
        with self._writing() as session:
            return steps.set_state(session, run_id, ACTIVE, priority=priority)

    @patient
    def cancel(self, run_id: UUID) -> bool:
        """End a run that has not ended; its workers lose their leases. False when there was nothing to cancel."""
        with self._writing() as session:
            cancelled = steps.set_state(session, run_id, ACTIVE, state=RunState.CANCELLED, finished_at=now())
            if cancelled:
                steps.note(session, run_id, "cancelled")
            return cancelled

    def complete(self, run_id: UUID) -> EvaluationResult | None:
        """Combine a run whose shards are all done; the result for the one caller who completed it, else None.

        A run that is audited is not complete before what was drawn has been measured again, and agrees.
        """
        run = self.run(run_id)
        if run is None or run.state is not RunState.RUNNING or not self._all_done(run_id):
            return None
        pieces = self._settle(run_id)
        if pieces is None:
            return None
        reports = self.shard_results(run_id)  # a store that is away for a while must not end the run
        try:
            result = _combined(run, reports).with_findings(*([finding(pieces)] if pieces else []))
        except Exception as error:  # whatever it is, a run that cannot be combined must not be tried for ever
            log.exception("run %s cannot be combined", run_id)
            self._fail_run(run_id, steps.failure_of(InvalidResult(f"the reports cannot be combined: {error}")))
            return None
        return result if self._store_result(run_id, result) else None

    def sweep(self) -> Sweep:
        """Do what died processes left undone: queue expired shards again, complete runs whose shards are all done."""
        before = {run.id for run in self.runs(*ACTIVE)}
        expired = self._expire_all()
        completed = tuple(run.id for run in self.runs(RunState.RUNNING) if self.complete(run.id) is not None)
        failed = tuple(run.id for run in self.runs(RunState.FAILED) if run.id in before)
        return Sweep(expired, failed, completed)

    def reproduced(self, run_id: UUID) -> EvaluationResult | None:
        """Return the numbers of a complete run, after they have been made again from its reports; None without any.

        Raises:
            InvalidResult: the reports give other numbers than were stored.
        """
        run, stored = self.run(run_id), self.result(run_id)
        if run is None or stored is None:
            return None
        again = _numbers(_combined(run, self.shard_results(run_id)))
        for name, (value, n) in _numbers(stored).items():
            other = again.get(name)
            # sums in another order, as another version of numpy may take them, differ in the last digits
            if other is None or not (n == other[1] and math.isclose(value, other[0], rel_tol=1e-9)):
                raise InvalidResult(
                    f"run {run_id} has {name} = {value:g} on {n} examples, but its reports give {other and other[0]!r}"
                    "; somebody changed the run store: restore a backup, or measure it again"
                )
        return stored

    @staticmethod
    def _next_shard(session: Session, run_id: UUID | None, worker: str) -> ShardRow | None:
        found = (steps.next_shard(session, waiting) for waiting in steps.runs_in_turn(session, run_id, worker))
        return next((shard for shard in found if shard is not None), None)

    @patient
    def _settle(self, run_id: UUID) -> tuple[audits.Piece, ...] | None:
        with self._writing() as session:
            return audits.settle(session, run_id, self.chance)

    @patient
    def _expire_all(self) -> int:
        with self._writing() as session:
            ended = select(RunRow.id).where(RunRow.state.not_in(ACTIVE))
            for kind in MEASURED:
                session.execute(  # nobody waits for these, but no row shall say that it is being worked on
                    update(kind)
                    .where(kind.run_id.in_(ended), kind.state == ShardState.RUNNING, kind.lease_expires < now())
                    .values(state=ShardState.QUEUED, lease_expires=None)
                )
            return steps.expire(session, None)

    @patient
    def _all_done(self, run_id: UUID) -> bool:
        with self._reading() as session:
            return not session.scalar(select(steps.undone(run_id)))

    @patient
    def _fail_run(self, run_id: UUID, failure: steps.Failure) -> None:
        with self._writing() as session:
            steps.end_failed(session, run_id, failure)

    @patient
    def _store_result(self, run_id: UUID, result: EvaluationResult) -> bool:
        with self._writing() as session:
            document = evaluation_to_json(result)
            if not steps.set_state(
                session, run_id, (RunState.RUNNING,), state=RunState.COMPLETE, result=document, finished_at=now()
            ):
                return False
            for stage in result.stages:
                row = session.get_one(StageRow, (run_id, stage.stage, stage.split))
                row.summary = SUMMARY.dump_json(stage).decode()
            steps.note(session, run_id, "complete")
            return True


def _combined(run: RunRecord, reports: Sequence[ShardResult]) -> EvaluationResult:
    clean = [report for report in reports if report.spec.stage is StageName.CLEAN]
    for report in reports:
        if report.spec.stage is StageName.AUTOATTACK:
            _check_attacked(report, clean)  # once more, as the clean ones may have been measured anew since
    return combine(run.protocol, reports, checkpoint_sha256=run.checkpoint_sha256, limit=run.limit)


def _check_attacked(report: ShardResult, clean: Sequence[ShardResult]) -> None:
    check_against_clean(report, clean)
    check_starts(report, clean)


def _numbers(result: EvaluationResult) -> dict[str, tuple[float, int]]:
    """Return everything that a result says, by name: values with their n, those of curves at each position."""
    return {one.column: (one.value, one.n) for one in result.measurements} | {
        f"{curve.key}_{curve.split} at {point.position:g}": (point.value, curve.n)
        for curve in result.curves
        for point in curve.points
    }
