"""How a submission stands, as page, API and command line say it: one frozen value, read from both stores.

Workers go by short aliases here: their names hold the names of hosts and the ids of processes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.utils.crypto import salted_hmac
from pydantic import TypeAdapter

from evaluator.environment import read_environment
from evaluator.exceptions import Fault, StoreUnavailable
from evaluator.forecast import Forecast, forecast, position
from evaluator.metrics import StageName
from evaluator.preview import Preview
from evaluator.store import Event, Pause, Role, RunRecord, RunState, RunStore, StageRecord, WorkerRecord
from evaluator.types import Split
from leaderboard.health import from_run_store
from leaderboard.hints import hint
from leaderboard.models import State, Submission
from leaderboard.monitoring import state_of

LAST_LINES = 12
"""How much of a run's log is shown."""

_WORKER = re.compile(r"(?<![\w.-])[\w.-]*[A-Za-z][\w.-]*:\d+(?![\w.-])")
"""What workers call themselves, `host:pid`, in lines about attempts of which nothing else is recorded."""


@dataclass(frozen=True)
class Milestone:
    """Something that happened to a submission, or, without a time, is still to come."""

    name: str
    at: datetime | None


@dataclass(frozen=True)
class Stage:
    """How far one stage is on one split: `waiting`, `running`, `done`, or `stopped` with its run."""

    stage: StageName
    split: Split
    state: str
    examples: int
    examples_done: int
    attempts: int
    workers: tuple[str, ...]
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None


@dataclass(frozen=True)
class Failure:
    """Why a submission failed, whose fault it is and what can be done; the log is for its owner and staff."""

    kind: str | None
    fault: Fault
    reason: str
    hint: str
    log: str | None


@dataclass(frozen=True)
class SubmissionStatus:
    """How a submission stands. `ended` says that nothing changes unless somebody asks for it.

    `position` is its place among the runs that wait, while none of it is measured. `forecast` holds seconds, and is
    None where nothing is known. `obstacle` says why nothing moves, in a sentence. `preview` is a quick estimate of the
    robust error on test, for insiders, until the run has ended; `examples` are those of the standard numbers.
    """

    run_id: UUID
    title: str
    protocol: str
    state: State
    ended: bool
    is_private: bool
    is_anonymous: bool
    milestones: tuple[Milestone, ...]
    examples: int
    examples_done: int
    position: int | None
    forecast: Forecast | None
    obstacle: str | None
    preview: Preview | None
    failure: Failure | None
    stages: tuple[Stage, ...]
    log: tuple[Event, ...]

    def document(self) -> dict[str, Any]:
        """Return the same as plain JSON."""
        return dict(_STATUS.dump_python(self, mode="json"))


_STATUS = TypeAdapter(SubmissionStatus)


@dataclass(frozen=True)
class _Record:
    """What the run store knows of a run."""

    run: RunRecord | None = None
    stages: tuple[StageRecord, ...] = ()
    events: tuple[Event, ...] = ()
    position: int | None = None
    forecast: Forecast | None = None
    obstacle: str | None = None
    preview: Preview | None = None


def status_of(submission: Submission, *, insider: bool = False) -> SubmissionStatus:
    """Return how a submission stands; an `insider`, its owner or staff, sees previews and what was written."""
    try:
        record = from_run_store(partial(_read, submission.run_id))
    except StoreUnavailable:
        record = _Record(obstacle="The record of the evaluation does not answer at present.")
    run, state = record.run, _state(submission, record.run)
    names = {worker for stage in record.stages for worker in stage.workers}
    measured = [stage for stage in record.stages if stage.stage is not StageName.PREVIEW]
    return SubmissionStatus(
        run_id=submission.run_id,
        title=submission.title,
        protocol=submission.protocol_label,
        state=state,
        ended=state.ended,
        is_private=submission.is_private,
        is_anonymous=submission.is_anonymous,
        milestones=tuple(_milestones(submission, run, state)),
        examples=sum(stage.examples for stage in measured),
        examples_done=sum(stage.examples_done for stage in measured),
        position=record.position if state is State.QUEUED else None,
        forecast=record.forecast,
        obstacle=record.obstacle,
        preview=record.preview if insider else None,
        failure=_failure(submission, run, names, insider=insider) if state is State.FAILED else None,
        stages=tuple(_stage(stage, run, names) for stage in record.stages),
        log=tuple(Event(one.at, without_names(one.text, names)) for one in record.events[-LAST_LINES:]),
    )


def successor(run_id: UUID) -> Submission | None:
    """Return the submission that a run was of, which has a newer run since; None where there is none."""
    run = from_run_store(partial(RunStore.run, run_id=run_id))
    if run is None:
        return None
    of = {"checkpoint_sha256": run.checkpoint_sha256, "protocol_digest": run.protocol_digest}
    return Submission.objects.filter(**of).first()


def alias(worker: str) -> str:
    """Return what strangers may call a worker: the same for as long as it lives, and nothing can be read from it."""
    return f"worker-{salted_hmac('leaderboard.watching.alias', worker).hexdigest()[:5]}"


def without_names(text: str, names: Iterable[str]) -> str:
    """Return a line with the aliases of workers for their names: of those in `names`, and of all `host:pid`."""
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.:-]){re.escape(name)}(?![\w.:-])", alias(name), text)
    return _WORKER.sub(lambda found: alias(found[0]), text)


def serving(workers: Iterable[WorkerRecord]) -> int:
    """Return how many workers measure, or would."""
    lease = read_environment().lease_seconds
    return sum(one.role is Role.EVALUATION and state_of(one, lease) in ("idle", "busy") for one in workers)


def obstacle(workers: int, pauses: Iterable[Pause]) -> str | None:
    """Return why nothing is measured at present, in a sentence, if there is a reason."""
    for pause in pauses:
        if pause.role is Role.EVALUATION:
            return f"Evaluation is paused: {pause.reason}"
    return None if workers else "No worker measures at present; it goes on as soon as one comes."


def _read(run_id: UUID, store: RunStore) -> _Record:
    run, stages, events = store.run(run_id), store.progress(run_id), store.events(run_id)
    if run is None or run.state.ended:
        return _Record(run, stages, events)
    turns, (present, pauses) = store.turns(), store.attendance()
    workers = serving(present)
    hindered = obstacle(workers, pauses)
    foretold = None if hindered else forecast(run_id, turns, store.paces(), workers=workers)
    asked = any(stage.stage is StageName.PREVIEW for stage in stages)
    preview = store.preview(run_id) if asked else None
    return _Record(run, stages, events, position(run_id, turns), foretold, hindered, preview)


def _state(submission: Submission, run: RunRecord | None) -> State:
    """Return where a submission stands: its site's word, unless the run store is ahead of it."""
    state = State(submission.state)
    if run is None or state.ended:
        return state
    ahead = {RunState.COMPLETE: State.RUNNING}  # its numbers are there, and are about to be published
    return ahead.get(run.state) or State(run.state)


def _milestones(submission: Submission, run: RunRecord | None, state: State) -> Iterable[Milestone]:
    yield Milestone("submitted", submission.created_at)
    yield Milestone("queued", run and run.created_at)
    if run is not None and (run.started_at or not run.state.ended):
        yield Milestone("started", run.started_at)
    if state in (State.FAILED, State.CANCELLED):
        yield Milestone(state, run and run.finished_at)
        return
    if state in (State.SUSPENDED, State.WITHDRAWN):
        yield Milestone(state, submission.suspended_at if state is State.SUSPENDED else submission.withdrawn_at)
        return
    yield Milestone("measured", run and run.finished_at)
    if not submission.is_private:
        yield Milestone("published", submission.published_at)


def _stage(stage: StageRecord, run: RunRecord | None, names: Iterable[str]) -> Stage:
    if stage.shards_done == stage.shards:
        state = "done"
    elif run is None or run.state.ended or stage.shards_failed:
        state = "stopped"
    else:
        state = "running" if stage.shards_running or stage.shards_done else "waiting"
    return Stage(
        stage=stage.stage,
        split=stage.split,
        state=state,
        examples=stage.examples,
        examples_done=stage.examples_done,
        attempts=stage.attempts,
        workers=tuple(map(alias, stage.workers)),
        started_at=stage.started_at,
        finished_at=stage.finished_at,
        error=None if stage.error is None else without_names(stage.error, names),
    )


def _failure(submission: Submission, run: RunRecord | None, names: Iterable[str], *, insider: bool) -> Failure:
    kind = run and run.failure
    fault = Fault((run and run.fault) or submission.fault or Fault.OURS)
    reason = (run and run.error) or submission.failure or "no reason was recorded"
    log = run.log if run and insider else None
    return Failure(kind, fault, without_names(reason, names), hint(kind, fault), log)
