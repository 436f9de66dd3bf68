"""The queue as everybody may see it: what waits in which order, who works, what is paused, what stages take."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any
from uuid import UUID

from django.utils import timezone
from pydantic import TypeAdapter

from evaluator.environment import read_environment
from evaluator.forecast import Forecast, forecast_all, position
from evaluator.metrics import StageName
from evaluator.plan import plan
from evaluator.shipped import PROTOCOLS
from evaluator.store import Pace, Pause, Role, RunState, RunStore, Turn, WorkerRecord
from leaderboard import selectors
from leaderboard.health import from_run_store
from leaderboard.models import Submission
from leaderboard.monitoring import state_of
from leaderboard.watching import alias, obstacle, serving

MOST = 100
"""How many of the runs that wait are listed."""


@dataclass(frozen=True)
class WaitingRun:
    """A run that has not ended, without a place where none of it waits. Only what is public is named."""

    place: int | None
    run_id: UUID | None
    title: str | None
    protocol: str | None
    state: RunState
    submitted_at: datetime
    examples_left: int


@dataclass(frozen=True)
class Worker:
    """A worker under its alias; `state` is idle, busy, draining or silent."""

    name: str
    role: Role
    state: str
    device: str | None
    seen_at: datetime


@dataclass(frozen=True)
class Typical:
    """What the stages of a protocol take, in seconds: medians over recent runs, as if one worker did all."""

    protocol: str
    runs: int
    seconds: dict[StageName, float]


@dataclass(frozen=True)
class QueueStatus:
    """How all evaluation stands. `forecast` is when all of it should be done; None where nothing is known."""

    submissions: dict[str, int]
    oldest_seconds: float
    forecast: Forecast | None
    obstacle: str | None
    pauses: tuple[Pause, ...]
    workers: tuple[Worker, ...]
    typical: tuple[Typical, ...]
    unfinished: int
    waiting: tuple[WaitingRun, ...]

    def document(self) -> dict[str, Any]:
        """Return the same as plain JSON."""
        return dict(_STATUS.dump_python(self, mode="json"))


_STATUS = TypeAdapter(QueueStatus)
_PROTOCOLS = {protocol.digest: protocol for versions in PROTOCOLS.values() for protocol in versions}


def queue_status() -> QueueStatus:
    """Return how the queue stands.

    Raises:
        StoreUnavailable: the run store does not answer.
    """
    turns, paces, (workers, pauses) = from_run_store(_read)
    at_work = serving(workers)
    hindered = obstacle(at_work, pauses)
    ages = [(timezone.now() - turn.created_at).total_seconds() for turn in turns if turn.waiting]
    return QueueStatus(
        submissions=selectors.submissions(),
        oldest_seconds=max(0.0, *ages) if ages else 0.0,
        forecast=forecast_all(turns, paces, workers=at_work) if turns and not hindered else None,
        obstacle=hindered if turns else None,
        pauses=pauses,
        workers=tuple(_worker(one) for one in workers),
        typical=_typical(paces),
        unfinished=len(turns),
        waiting=_waiting(turns[:MOST]),
    )


def _read(
    store: RunStore,
) -> tuple[tuple[Turn, ...], tuple[Pace, ...], tuple[tuple[WorkerRecord, ...], tuple[Pause, ...]]]:
    return store.turns(), store.paces(), store.attendance()


def _worker(worker: WorkerRecord) -> Worker:
    state = state_of(worker, read_environment().lease_seconds)
    return Worker(alias(worker.name), worker.role, state, worker.device, worker.seen_at)


def _typical(paces: tuple[Pace, ...]) -> tuple[Typical, ...]:
    seen: defaultdict[str, defaultdict[StageName, list[float]]] = defaultdict(lambda: defaultdict(list))
    for pace in paces:
        seen[pace.protocol_digest][pace.stage].append(pace.seconds / pace.examples)
    found = []
    for digest, protocol in _PROTOCOLS.items():
        if digest in seen:
            examples = {name: sum(len(spec) for spec in plan(protocol) if spec.stage is name) for name in StageName}
            known = [stage for stage in StageName if seen[digest][stage] and examples[stage]]
            seconds = {stage: median(seen[digest][stage]) * examples[stage] for stage in known}
            found.append(Typical(protocol.label, max(map(len, seen[digest].values())), seconds))
    return tuple(found)


def _waiting(turns: tuple[Turn, ...]) -> tuple[WaitingRun, ...]:
    public = Submission.objects.filter(run_id__in=[turn.run_id for turn in turns], is_private=False)
    known = {one.run_id: one for one in public.only("run_id", "title", "protocol_name", "protocol_version")}
    return tuple(
        WaitingRun(
            place=position(turn.run_id, turns),
            run_id=turn.run_id if turn.run_id in known else None,
            title=known[turn.run_id].title if turn.run_id in known else None,
            protocol=_PROTOCOLS[turn.protocol_digest].label if turn.protocol_digest in _PROTOCOLS else None,
            state=turn.state,
            submitted_at=turn.created_at,
            examples_left=sum(turn.waiting.values()) + sum(turn.held.values()),
        )
        for turn in turns
    )
