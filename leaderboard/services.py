"""What changes the site: a checkpoint comes in, a run's numbers go out, trainings are queued, and the sweep.

The run store is the record of evaluation, the site's database that of people and publication. They meet here alone, by
`run_id`; every step is idempotent, so that any process may die anywhere and the sweep finishes its work.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from uuid import UUID, uuid4

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.text import slugify

from evaluator.artifacts import Artifacts
from evaluator.checkpoint_file import open_checkpoint
from evaluator.environment import read_environment
from evaluator.exceptions import ArtifactsUnavailable, Fault, InvalidRequest
from evaluator.logs import about
from evaluator.metrics import StageName
from evaluator.preview import require_preview
from evaluator.protocol import EvaluationProtocol, from_json, to_json
from evaluator.results import EvaluationResult, curves_to_fields
from evaluator.safetensors_header import read_header
from evaluator.scratch import scratch_folder
from evaluator.store import (
    Queued,
    RunRecord,
    RunState,
    RunStore,
    ShardState,
    TrainingOrder,
    TrainingStore,
    WorkerRegister,
)
from evaluator.trust.judgement import judge_claim
from evaluator.types import Split
from leaderboard import dispatch, quotas, throttling
from leaderboard.details import Details
from leaderboard.models import Entry, Measurement, ReportedResult, State, Submission
from leaderboard.reported import Reported

_PENDING = tuple(state for state in State if not state.ended)

log = logging.getLogger(__name__)


def run_store() -> RunStore:
    """Return this process's run store, its tables made."""
    return _run_store(read_environment().run_store_url)


def training_store() -> TrainingStore:
    """Return this process's record of trainings, its tables made."""
    return _training_store(read_environment().run_store_url)


def worker_register() -> WorkerRegister:
    """Return this process's register of workers, its tables made."""
    return _worker_register(read_environment().run_store_url)


def submit(
    path: Path,
    *,
    title: str,
    protocol: EvaluationProtocol,
    owner: User | None = None,
    is_reference: bool = False,
    is_private: bool = False,
    idempotency_key: str = "",
    details: Details | None = None,
    preview: bool = False,
) -> Submission:
    """Take in a checkpoint file and queue its evaluation; the same file under the same protocol is taken in once.

    One that was taken in before and was cancelled, or failed without its sender's fault, gets a new run.

    Raises:
        InvalidCheckpoint: the file is refused; nothing is stored.
        InvalidRequest: title, architecture, options or data set are, or there is nothing to preview; nothing is stored.
        QuotaExceeded: its owner handed in too much already; nothing is stored.
    """
    title, size = _checked(title), path.stat().st_size
    if preview:
        require_preview(protocol)
    checkpoint = open_checkpoint(path)
    if checkpoint.manifest.dataset != protocol.dataset:
        raise InvalidRequest(
            f"{path.name} was made for {checkpoint.manifest.dataset}, but {protocol.label} measures on "
            f"{protocol.dataset}; choose a protocol of the same data set"
        )
    known = Submission.objects.filter(checkpoint_sha256=checkpoint.sha256, protocol_digest=protocol.digest)
    is_new = not known.exists()
    if owner is not None and is_new:
        quotas.check(owner, size)
    sha256 = Artifacts(read_environment().artifacts_url).put(path)
    run_id = uuid4()
    try:
        with transaction.atomic():
            if owner is not None and is_new:  # once more, and one at a time: several requests may have come at once
                quotas.check(User.objects.select_for_update().get(pk=owner.pk), size)
            submission = Submission.objects.create(
                run_id=run_id,
                title=title,
                slug=slug_of(title, run_id),
                owner=owner,
                is_reference=is_reference,
                is_private=is_private,
                wants_preview=preview,
                idempotency_key=idempotency_key,
                **asdict(details or Details()),
                size_bytes=size,
                checkpoint_sha256=sha256,
                manifest=json.loads(checkpoint.manifest.to_json()),
                stored_numbers=read_header(path).numbers,
                protocol_name=protocol.name,
                protocol_version=protocol.version,
                protocol_digest=protocol.digest,
                protocol=json.loads(to_json(protocol)),
            )
    except IntegrityError:
        submission = known.get()
        run_again(submission)
        return submission
    enqueue(submission)
    return submission


def run_again(submission: Submission, *, finished: bool = False) -> bool:
    """Give a submission a new run if it was cancelled, or failed without its sender's fault; False where it was not.

    With `finished` also one that was measured; its entry is gone until the new numbers are there.
    """
    states = (State.FAILED, State.CANCELLED)
    if finished:
        states += (State.PUBLISHED, State.MEASURED, State.SUSPENDED)
    run = run_store().run(submission.run_id)
    if run is not None:
        _mirror(submission, run)
    again = Submission.objects.filter(pk=submission.pk, state__in=states)
    fresh = {"run_id": uuid4(), "state": State.SUBMITTED, "failure": "", "fault": "", "updated_at": timezone.now()}
    with transaction.atomic():
        if not again.exclude(fault=Fault.SUBMITTER).update(**fresh, suspended_at=None, staff_reason=""):
            return False
        Entry.objects.filter(submission=submission).delete()
    submission.refresh_from_db()
    enqueue(submission)
    return True


def queue_trainings(orders: Sequence[TrainingOrder]) -> Queued:
    """Let workers train what was not queued before; `take_in` submits what comes of it.

    Raises:
        InvalidRequest: a title is not one; nothing is queued.
    """
    queued = training_store().queue([replace(order, title=_checked(order.title)) for order in orders])
    dispatch.train()
    return queued


def take_in() -> int:
    """Submit, as reference entries, what was trained for it and is not submitted yet; return how many there were."""
    artifacts = Artifacts(read_environment().artifacts_url)
    known = set(Submission.objects.values_list("checkpoint_sha256", "protocol_digest"))
    taken = 0
    for one in training_store().hand_ins():
        if (one.checkpoint_sha256, one.protocol.digest) in known:
            continue
        try:
            with scratch_folder() as folder:
                path = artifacts.fetch(one.checkpoint_sha256, folder)
                submit(path, title=one.title, protocol=one.protocol, is_reference=True)
            taken += 1
        except Exception:  # one checkpoint's trouble is not the others'; the next sweep tries again
            log.exception("%s could not be taken in", one.title)
    return taken


def publish_run(run_id: UUID) -> Entry | None:
    """Publish the numbers of a complete run; the same entry however often it is called.

    None when nobody submitted the run, when it has no result yet, or when its submission is private, suspended or
    withdrawn.
    """
    store = run_store()
    result = store.reproduced(run_id)
    if result is None:
        return None
    with transaction.atomic():
        submission = Submission.objects.select_for_update().filter(run_id=run_id).first()
        if submission is None or submission.state in (State.SUSPENDED, State.WITHDRAWN):
            return None
        if submission.is_private:
            _move(submission, State.MEASURED)
            return None
        result = judge_claim(result, submission.manifest["notes"])
        entry, is_new = Entry.objects.get_or_create(
            run_id=run_id,
            defaults={
                "submission": submission,
                "rankable": result.rankable,
                "seed": result.seed,
                "versions": result.versions,
                "stages": [asdict(stage) for stage in result.stages],
                "findings": [asdict(finding) for finding in result.findings],
                "curves": curves_to_fields(result.curves),
                "seconds": sum(stage.seconds for stage in result.stages),
                "robust_on_test": _robust_on_test(store, run_id),
            },
        )
        if is_new:
            Measurement.objects.bulk_create(_measurements(entry, result))
        submission.state = State.PUBLISHED
        submission.published_at = submission.published_at or timezone.now()
        submission.save(update_fields=["state", "published_at", "updated_at"])
    return entry


def rebuild() -> int:
    """Make all entries and measurements again from the run store; return how many entries there are now.

    Raises:
        InvalidRequest: the run store lacks results of published runs; nothing is changed.
    """
    run_ids = list(Submission.objects.filter(state=State.PUBLISHED).values_list("run_id", flat=True))
    store = run_store()
    lost = [run_id for run_id in run_ids if store.result(run_id) is None]
    if lost:
        raise InvalidRequest(
            f"the run store lacks the results of {len(lost)} of {len(run_ids)} published runs, {lost[0]} for one; "
            "nothing was changed; check RUN_STORE_URL"
        )
    with transaction.atomic():
        Entry.objects.all().delete()
        return sum(publish_run(run_id) is not None for run_id in run_ids)


def sweep() -> Counter[str]:
    """Bring every pending submission to where its run stands; return how many came to stand where.

    Expires and completes what dead workers left in the run store, takes in what was trained, publishes complete runs,
    mirrors failed ones with their reason, creates runs that were never created, wakes the workers while anything
    waits, and removes what killed processes left half stored among the artifacts.
    """
    store, trainings = run_store(), training_store()
    store.sweep()
    worker_register().forget()
    throttling.forget()
    trainings.expire()
    if trainings.trainings(ShardState.QUEUED):
        dispatch.train()
    take_in()
    waiting = None
    for submission in Submission.objects.filter(state__in=_PENDING).order_by("created_at"):
        with about({"run_id": str(submission.run_id)}):
            try:
                run = store.run(submission.run_id)
                if run is None:
                    enqueue(submission)
                elif run.state is RunState.COMPLETE:
                    publish_run(run.id)
                else:
                    _mirror(submission, run)
                    waiting = waiting or (None if run.state.ended else run.id)
            except Exception:  # one submission's trouble is not the others'; the next sweep tries again
                log.exception("submission %s could not be brought forward", submission.slug)
    if waiting is not None:
        dispatch.evaluate(waiting)
    try:
        Artifacts(read_environment().artifacts_url).sweep()
    except ArtifactsUnavailable as absence:  # what was left half stored can wait
        log.warning("%s", absence)
    return Counter(Submission.objects.values_list("state", flat=True))


def cancel(run_id: UUID) -> bool:
    """End a run that has not ended, and its submission; whoever measures it loses the lease. False if it had ended."""
    store = run_store()
    cancelled = store.cancel(run_id)
    submission, run = Submission.objects.filter(run_id=run_id).first(), store.run(run_id)
    if cancelled and submission is not None and run is not None:
        _mirror(submission, run)
    return cancelled


@transaction.atomic
def hide(submission: Submission) -> bool:
    """Make a submission private and take its entry from the board; False where it was private, or is withdrawn."""
    shown = Submission.objects.filter(pk=submission.pk, is_private=False).exclude(state=State.WITHDRAWN)
    hidden = bool(shown.update(is_private=True, updated_at=timezone.now()))
    if hidden:
        Entry.objects.filter(submission=submission).delete()
        Submission.objects.filter(pk=submission.pk, state=State.PUBLISHED).update(state=State.MEASURED)
    submission.refresh_from_db()
    return hidden


def publish(submission: Submission) -> bool:
    """Make a private submission public, with its entry if it is measured; False where it was, or is withdrawn."""
    private = Submission.objects.filter(pk=submission.pk, is_private=True).exclude(state=State.WITHDRAWN)
    with transaction.atomic():
        shown = bool(private.update(is_private=False, updated_at=timezone.now()))
        # As before its run was complete: should this process die now, the sweep publishes it.
        Submission.objects.filter(pk=submission.pk, state=State.MEASURED).update(state=State.RUNNING)
    if shown:
        publish_run(submission.run_id)
    submission.refresh_from_db()
    return shown


def reveal(submission: Submission) -> bool:
    """Let everybody read the authors of an anonymous submission; False where they could, or where it is withdrawn."""
    anonymous = Submission.objects.filter(pk=submission.pk, is_anonymous=True).exclude(state=State.WITHDRAWN)
    revealed = bool(anonymous.update(is_anonymous=False, updated_at=timezone.now()))
    submission.refresh_from_db()
    return revealed


def suspend(submission: Submission, reason: str) -> bool:
    """Take an entry from the board until staff restores it; its address says why. False where none is published."""
    now = timezone.now()
    with transaction.atomic():
        published = Submission.objects.filter(pk=submission.pk, state=State.PUBLISHED)
        gone = {"state": State.SUSPENDED, "suspended_at": now, "staff_reason": reason, "updated_at": now}
        suspended = bool(published.update(**gone))
        if suspended:
            Entry.objects.filter(submission=submission).delete()
    submission.refresh_from_db()
    return suspended


def restore(submission: Submission) -> bool:
    """Bring the entry of a suspended submission back; False where it was not suspended."""
    suspended = Submission.objects.filter(pk=submission.pk, state=State.SUSPENDED)
    back = {"state": State.RUNNING, "suspended_at": None, "staff_reason": "", "updated_at": timezone.now()}
    restored = bool(suspended.update(**back))
    if restored:  # should this process have died before, the sweep publishes it
        publish_run(submission.run_id)
    submission.refresh_from_db()
    return restored


def withdraw(submission: Submission, reason: str = "") -> bool:
    """End a submission for good: its run is cancelled, its entry gone; its address says so. False where it had been.

    The `reason` is staff's, for everybody.
    """
    now = timezone.now()
    with transaction.atomic():
        standing = Submission.objects.filter(pk=submission.pk).exclude(state=State.WITHDRAWN)
        gone = {"state": State.WITHDRAWN, "withdrawn_at": now, "staff_reason": reason, "updated_at": now}
        withdrawn = bool(standing.update(**gone))
        Entry.objects.filter(submission=submission).delete()
    run_store().cancel(submission.run_id)
    submission.refresh_from_db()
    return withdrawn


@transaction.atomic
def import_reported(source: str, rows: Iterable[Reported]) -> None:
    """Replace all rows of a source."""
    ReportedResult.objects.filter(source=source).delete()
    ReportedResult.objects.bulk_create(ReportedResult(source=source, **asdict(row)) for row in rows)


def slug_of(title: str, run_id: UUID) -> str:
    """Return the last part of an entry's address."""
    return f"{slugify(title) or 'entry'}-{run_id.hex[:8]}"


def put_under(submission: Submission, protocol: EvaluationProtocol) -> None:
    """Say, without saving it, by which protocol a submission is measured."""
    submission.protocol_name, submission.protocol_version = protocol.name, protocol.version
    submission.protocol_digest, submission.protocol = protocol.digest, json.loads(to_json(protocol))


def _checked(title: str) -> str:
    title = title.strip()
    longest = Submission._meta.get_field("title").max_length
    if not 0 < len(title) <= longest or not title.isprintable():
        raise InvalidRequest(f"a title needs 1 to {longest} printable characters, got {title[: longest + 1]!r}")
    return title


def enqueue(submission: Submission, *, priority: int = 0) -> None:
    """Create the run of a submission and tell the workers; where nobody does so, the sweep does."""
    protocol = from_json(json.dumps(submission.protocol))
    owner = "" if submission.owner_id is None else str(submission.owner_id)
    audit_share = read_environment().audit_share if protocol.rankable else 0.0
    run_store().create_run(
        submission.run_id,
        protocol,
        submission.checkpoint_sha256,
        owner=owner,
        priority=priority,
        audit_share=audit_share,
        preview=submission.wants_preview,
    )
    _move(submission, State.QUEUED)
    dispatch.evaluate(submission.run_id)


def _mirror(submission: Submission, run: RunRecord) -> None:
    match run.state:
        case RunState.FAILED:
            failure = run.error or "no reason was recorded"
            _move(submission, State.FAILED, failure=failure, fault=run.fault or Fault.OURS)
        case RunState.CANCELLED:
            _move(submission, State.CANCELLED, failure="hand the same file in again to have it measured")
        case RunState.RUNNING:
            _move(submission, State.RUNNING)


def _move(submission: Submission, state: State, **fields: str) -> None:
    """Change the state unless somebody has ended the submission meanwhile."""
    pending = Submission.objects.filter(pk=submission.pk, state__in=_PENDING)
    pending.update(state=state, updated_at=timezone.now(), **fields)
    submission.refresh_from_db()


def _robust_on_test(store: RunStore, run_id: UUID) -> str:
    shards = [
        shard
        for shard in store.shard_results(run_id)
        if (shard.spec.stage, shard.spec.split) == (StageName.AUTOATTACK, Split.TEST)
    ]
    shards.sort(key=lambda shard: shard.spec.start)
    return "".join("1" if cause == "robust" else "0" for shard in shards for cause in shard.values["broken_by"])


def _measurements(entry: Entry, result: EvaluationResult) -> list[Measurement]:
    return [
        Measurement(entry=entry, metric=m.metric, split=m.split or "", value=m.value, low=m.low, high=m.high, n=m.n)
        for m in result.measurements
    ]


@cache
def _training_store(url: str) -> TrainingStore:
    _run_store(url)  # makes the tables
    return TrainingStore(url)


@cache
def _worker_register(url: str) -> WorkerRegister:
    _run_store(url)  # makes the tables
    return WorkerRegister(url)


@cache
def _run_store(url: str) -> RunStore:
    store = RunStore(url)
    store.create_tables()
    return store
