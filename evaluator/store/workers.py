"""Who works: the register of workers, and which of them, and which kind of work, shall pause (torch-free)."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, case, delete, exists, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from evaluator.store import steps
from evaluator.store.engine import Store, now, patient
from evaluator.store.reading import as_time
from evaluator.store.records import Pause, Role, ShardState, WorkerRecord
from evaluator.store.rows import MEASURED, PauseRow, RefutedRow, TrainingRow, WorkerRow

FORGET_SECONDS = 24 * 3600.0
"""After so long a silence a worker is forgotten."""


class WorkerRegister(Store):
    """Workers, as they say themselves that they are there; `RunStore.create_tables` makes the tables."""

    @patient
    def announce(self, name: str, role: Role, *, device: str | None = None, versions: Mapping[str, str] = {}) -> None:
        """Say that a worker is there, now; what it said before of its device and versions stays unless said anew."""
        insert = postgresql.insert if self.engine.dialect.name == "postgresql" else sqlite.insert
        said = json.dumps(dict(versions), sort_keys=True)
        new = insert(WorkerRow).values(
            name=name, role=role.value, device=device, versions=said, started_at=now(), seen_at=now(), draining=False
        )
        news = {"seen_at": now()} | ({} if device is None else {"device": device, "versions": said})
        with self._writing() as session:
            session.execute(new.on_conflict_do_update(index_elements=["name"], set_=news))

    @patient
    def leave(self, name: str) -> None:
        """Say that a worker has ended."""
        with self._writing() as session:
            session.execute(delete(WorkerRow).where(WorkerRow.name == name))

    @patient
    def workers(self) -> tuple[WorkerRecord, ...]:
        """Return all workers that have been seen within a day, by name."""
        with self._reading() as session:
            return read_workers(session)

    @patient
    def drain(self, name: str, *, drain: bool = True) -> bool:
        """Let a worker finish what it holds and take no more (or take more again); False when there is none such."""
        with self._writing() as session:
            return steps.changed(session, update(WorkerRow).where(WorkerRow.name == name).values(draining=drain))

    @patient
    def pause(self, role: Role, reason: str) -> None:
        """Hand out no more work of a role; what is held is finished."""
        with self._writing() as session:
            session.merge(PauseRow(role=role.value, since=now(), reason=steps.storable(reason)))

    @patient
    def resume(self, role: Role) -> bool:
        """Hand out work of a role again; False when it was not paused."""
        with self._writing() as session:
            row = session.get(PauseRow, role.value)
            if row is not None:
                session.delete(row)
            return row is not None

    @patient
    def pauses(self) -> tuple[Pause, ...]:
        """Return what is paused."""
        with self._reading() as session:
            return read_pauses(session)

    @patient
    def forget(self) -> None:
        """Forget the workers that nobody has seen for a day."""
        with self._writing() as session:
            session.execute(delete(WorkerRow).where(WorkerRow.seen_at <= now() - FORGET_SECONDS))


def read_workers(session: Session) -> tuple[WorkerRecord, ...]:
    """Return all workers that have been seen within a day, by name."""
    query = select(WorkerRow, now() - WorkerRow.seen_at).where(WorkerRow.seen_at > now() - FORGET_SECONDS)
    busy = _busy(session)
    counts = select(RefutedRow.worker, func.count()).group_by(RefutedRow.worker)
    refuted = {str(worker): count for worker, count in session.execute(counts)}
    return tuple(
        WorkerRecord(
            name=row.name,
            role=Role(row.role),
            device=row.device,
            versions=json.loads(row.versions),
            started_at=as_time(row.started_at),
            seen_at=as_time(row.seen_at),
            silent_seconds=silent,
            draining=row.draining,
            busy_with=busy.get(row.name),
            refuted=refuted.get(row.name, 0),
        )
        for row, silent in session.execute(query.order_by(WorkerRow.name))
    )


def read_pauses(session: Session) -> tuple[Pause, ...]:
    """Return what is paused."""
    rows = session.scalars(select(PauseRow).order_by(PauseRow.role))
    return tuple(Pause(Role(row.role), as_time(row.since), row.reason) for row in rows)


def may_work(session: Session, role: Role, worker: str) -> bool:
    """Whether work of `role` is handed out to `worker` at present."""
    return not session.scalar(_held_back(), {"role": role.value, "worker": worker})


@cache
def _held_back() -> Select[bool]:
    paused = exists().where(PauseRow.role == bindparam("role"))
    draining = exists().where(WorkerRow.name == bindparam("worker"), WorkerRow.draining.is_(True))
    return select(case((paused | draining, True), else_=False))


def _busy(session: Session) -> dict[str, str]:
    """Return what each worker holds, in words."""
    busy: dict[str, str] = {}
    for kind in MEASURED:
        running: Select[Any] = select(kind).where(kind.state == ShardState.RUNNING)
        busy |= {str(row.worker): f"{steps.spec_of(row)} of run {row.run_id}" for row in session.scalars(running)}
    trainings = session.scalars(select(TrainingRow).where(TrainingRow.state == ShardState.RUNNING))
    return busy | {str(row.worker): f"{row.name}, seed {row.seed}" for row in trainings}
