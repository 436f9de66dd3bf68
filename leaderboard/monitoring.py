"""`/metrics`: how the work stands, for Prometheus. Read from the stores, since one web process knows no other's counts.

Who does not answer within two seconds is down, and what it would have said is missing from the page.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from hmac import compare_digest
from typing import TypeVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from evaluator.environment import read_environment
from evaluator.store import Role, RunStore, Status, WorkerRecord
from leaderboard import dispatch, selectors
from leaderboard.health import Question, from_run_store

SILENT_LEASES = 2
"""For how many leases a worker that is alive may be silent: it announces itself four times a lease."""

WORKER_STATES = ("idle", "busy", "draining", "silent")

log = logging.getLogger(__name__)

T = TypeVar("T")


def _status() -> Status:
    return from_run_store(RunStore.status)


status, submissions, wake_ups = Question(_status), Question(selectors.submissions), Question(dispatch.waiting)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer whoever brings the token."""
    expected = f"Bearer {settings.METRICS_TOKEN}"
    if not compare_digest(request.headers.get("Authorization", "").encode(), expected.encode()):
        sentence = "send the header Authorization: Bearer, followed by METRICS_TOKEN\n"
        return HttpResponse(sentence, status=401, content_type="text/plain", headers={"WWW-Authenticate": "Bearer"})
    registry = CollectorRegistry()
    registry.register(_Collected(_families()))
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type, headers={"Cache-Control": "no-store"})


class _Collected(Collector):
    """Families that are there already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._families


def _families() -> Iterator[Metric]:
    """Yield what can be said at present."""
    up = GaugeMetricFamily("leaderboard_up", "Whether it answers within two seconds.", labels=["service"])
    found = _ask(up, "run-store", status)
    by_state = _ask(up, "site-database", submissions)
    waiting = _ask(up, "broker", wake_ups)
    yield up
    if found is not None:
        yield from _of_status(found, lease_seconds=read_environment().lease_seconds)
    if by_state is not None:
        yield _gauge("submissions", "Submissions by where they stand.", "state", by_state)
    if waiting is not None:
        yield _gauge("wake_ups", "Messages that wait; they are hints, and may be lost.", "queue", waiting)


def _ask(up: GaugeMetricFamily, service: str, question: Callable[[], T]) -> T | None:
    """Return the answer of a service and note that it is up, or note that it is not."""
    try:
        answer = question()
    except Exception as error:  # whatever it is, the others have something to say
        log.warning("%s does not answer: %s", service, error)
        up.add_metric([service], 0)
        return None
    up.add_metric([service], 1)
    return answer


def _of_status(found: Status, *, lease_seconds: float) -> Iterator[Metric]:
    yield _gauge("runs", "Runs by where they stand.", "state", found.runs)
    yield _gauge("shards", "Shards by where they stand, of runs that have not ended.", "state", found.shards)
    yield _gauge("trainings", "Trainings by where they stand.", "state", found.trainings)
    oldest = "Age of the oldest run of which a shard waits, or of the oldest training that waits; 0 where none does."
    yield _gauge("oldest_waiting_seconds", oldest, "role", found.oldest_seconds)
    workers = GaugeMetricFamily("leaderboard_workers", "Workers by what they do.", labels=["role", "state"])
    for role in Role:
        states = [state_of(worker, lease_seconds) for worker in found.workers if worker.role is role]
        for state in WORKER_STATES:
            workers.add_metric([role, state], states.count(state))
    yield workers
    paused = {pause.role for pause in found.pauses}
    yield _gauge("paused", "Whether work is not handed out.", "role", {role: int(role in paused) for role in Role})
    costs = SummaryMetricFamily("leaderboard_shard_seconds", "What measured shards took.", labels=["stage"])
    for cost in found.costs:
        costs.add_metric([cost.stage], cost.shards, cost.seconds)
    yield costs
    failed = CounterMetricFamily("leaderboard_failed_runs", "Runs that failed.", labels=["failure", "fault"])
    for failure in found.failures:
        failed.add_metric([failure.failure, failure.fault or "unknown"], failure.runs)
    yield failed
    refuted = "How often a worker's reports of a run were refuted by two others."
    yield CounterMetricFamily("leaderboard_refuted_workers", refuted, value=found.refuted)
    clock = "The run store's time, by which leases end, in seconds since 1970."
    yield GaugeMetricFamily("leaderboard_run_store_time_seconds", clock, value=found.at.timestamp())


def state_of(worker: WorkerRecord, lease_seconds: float) -> str:
    """Return which of `WORKER_STATES` a worker is in."""
    if worker.silent_seconds > SILENT_LEASES * lease_seconds:
        return "silent"
    if worker.draining:
        return "draining"
    return "idle" if worker.busy_with is None else "busy"


def _gauge(name: str, text: str, label: str, values: dict[str, int] | dict[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"leaderboard_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
