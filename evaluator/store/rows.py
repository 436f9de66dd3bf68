"""The tables of the run store; rows never leave `evaluator.store` (torch-free)."""

from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Double, Enum, ForeignKey, ForeignKeyConstraint, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine

from evaluator.exceptions import Fault
from evaluator.metrics import StageName
from evaluator.store.records import RunState, ShardState
from evaluator.types import Split

NO_SAMPLE = -1
"""`weight_sample` of shards on the unperturbed weights: NULL would escape the unique constraint."""


def _enum(kind: type[StrEnum]) -> Enum:
    return Enum(kind, native_enum=False, length=16, values_callable=lambda enum: [member.value for member in enum])


class Row(DeclarativeBase):
    """Base of all rows. Times are seconds since 1970 by the database's clock."""

    type_annotation_map: ClassVar[dict[type, TypeEngine[Any] | type[TypeEngine[Any]]]] = {
        float: Double,
        **{kind: _enum(kind) for kind in (RunState, ShardState, StageName, Split, Fault)},
    }


class Leased:
    """What a worker claims. `attempt` counts claims (the fence), `failures` those that came to nothing."""

    state: Mapped[ShardState]
    attempt: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None] = mapped_column(String(200))
    claimed_at: Mapped[float | None]
    lease_expires: Mapped[float | None]
    finished_at: Mapped[float | None]
    error: Mapped[str | None] = mapped_column(Text)


class RunRow(Row):
    """One protocol on one checkpoint."""

    __tablename__ = "runs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    protocol: Mapped[str] = mapped_column(Text)
    protocol_digest: Mapped[str] = mapped_column(String(64))
    dataset: Mapped[str | None] = mapped_column(String(64))
    checkpoint_sha256: Mapped[str] = mapped_column(String(64))
    limit: Mapped[int | None]
    state: Mapped[RunState] = mapped_column(index=True)
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    error: Mapped[str | None] = mapped_column(Text)
    fault: Mapped[Fault | None]
    failure: Mapped[str | None] = mapped_column(String(64))
    log: Mapped[str | None] = mapped_column(Text)
    owner: Mapped[str] = mapped_column(String(64), server_default="")
    priority: Mapped[int] = mapped_column(server_default="0")
    audit_share: Mapped[float] = mapped_column(server_default="0")
    result: Mapped[str | None] = mapped_column(Text, deferred=True)


class StageRow(Row):
    """One measurement of a run on one split; its summary once the run is complete."""

    __tablename__ = "stages"

    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    stage: Mapped[StageName] = mapped_column(primary_key=True)
    split: Mapped[Split] = mapped_column(primary_key=True)
    position: Mapped[int]
    needs: Mapped[StageName | None]
    summary: Mapped[str | None] = mapped_column(Text)


class Measurable(Leased):
    """What is asked of a worker, and what it reported."""

    stage: Mapped[StageName]
    split: Mapped[Split]
    start: Mapped[int]
    stop: Mapped[int]
    weight_sample: Mapped[int]
    seconds: Mapped[float | None]
    result: Mapped[str | None] = mapped_column(Text, deferred=True)


class ShardRow(Measurable, Row):
    """The claimable piece of a stage. `position` counts the examples before it, over all stages of the run."""

    __tablename__ = "shards"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "stage", "split"], ["stages.run_id", "stages.stage", "stages.split"], ondelete="CASCADE"
        ),
        UniqueConstraint("run_id", "stage", "split", "start", "weight_sample"),
        Index("shards_by_state", "state", "run_id"),
        Index("shards_by_cost", "state", "stage", "seconds"),
    )

    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class AuditRow(Measurable, Row):
    """A piece of the shard at `position` that is measured again: once, or twice where `number` 1 disagreed with it."""

    __tablename__ = "audits"
    __table_args__ = (
        ForeignKeyConstraint(["run_id", "position"], ["shards.run_id", "shards.position"], ondelete="CASCADE"),
    )

    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    queued_at: Mapped[float]


MEASURED: tuple[type[ShardRow] | type[AuditRow], ...] = (ShardRow, AuditRow)
"""All that is measured under leases."""


class RefutedRow(Row):
    """A worker of whose reports of a run one was refuted by two others; it gets no more of that run."""

    __tablename__ = "refuted"

    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    worker: Mapped[str] = mapped_column(String(200), primary_key=True)
    at: Mapped[float]


class EventRow(Row):
    """One line of a run's log; only ever added."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    at: Mapped[float]
    text: Mapped[str] = mapped_column(Text)


class TrainingRow(Leased, Row):
    """One recipe with one seed: trained once, however many entries come of it."""

    __tablename__ = "trainings"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    seed: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Text)
    recipe: Mapped[str] = mapped_column(Text)
    epochs: Mapped[int]
    epochs_done: Mapped[int] = mapped_column(default=0)
    saved_epoch: Mapped[int | None]
    saved_sha256: Mapped[str | None] = mapped_column(String(64))
    queued_at: Mapped[float]
    fault: Mapped[Fault | None]
    final_sha256: Mapped[str | None] = mapped_column(String(64))
    best_sha256: Mapped[str | None] = mapped_column(String(64))


class HandInRow(Row):
    """What shall be handed in of a training: one of its snapshots under a protocol."""

    __tablename__ = "hand_ins"
    __table_args__ = (
        ForeignKeyConstraint(["digest", "seed"], ["trainings.digest", "trainings.seed"], ondelete="CASCADE"),
    )

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    seed: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    snapshot: Mapped[str] = mapped_column(String(16), primary_key=True)
    protocol_digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    protocol: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)


class WorkerRow(Row):
    """A process that claims work, for as long as it is there."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    device: Mapped[str | None] = mapped_column(String(200))
    versions: Mapped[str] = mapped_column(Text)
    started_at: Mapped[float]
    seen_at: Mapped[float]
    draining: Mapped[bool]


class PauseRow(Row):
    """A kind of work that is not handed out at present; the reason is for people."""

    __tablename__ = "pauses"

    role: Mapped[str] = mapped_column(String(16), primary_key=True)
    since: Mapped[float]
    reason: Mapped[str] = mapped_column(Text)
