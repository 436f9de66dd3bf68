"""The Celery application of measuring workers: `celery -A evaluator.worker worker -P prefork -c 1 -Q evaluation`.

Torch is imported in the pool's child only, which is spawned: a child forked after any torch operation deadlocks.
"""

import os
import platform
from typing import Any
from uuid import UUID

from celery import Celery

from evaluator.artifacts import Artifacts
from evaluator.broker import EVALUATION_QUEUE, broker_settings, wake
from evaluator.draining import draining
from evaluator.environment import read_environment
from evaluator.store import RunStore

app = Celery("evaluator", set_as_current=False)


def _settings() -> dict[str, Any]:
    return broker_settings(read_environment().broker_url) | {
        "task_default_queue": EVALUATION_QUEUE,
        "worker_pool_start_method": "spawn",
    }


app.add_defaults(_settings)  # read when first needed, not at import


@app.task(name="evaluator.evaluate")  # type: ignore[untyped-decorator]  # Celery has no types
def evaluate(run_id: str) -> None:
    """Measure until no shard waits, of this or any other run: the message only says that there is work."""
    from evaluator.work import work  # imports torch, which the parent and the senders of messages must not

    here = read_environment()
    store = RunStore(here.run_store_url)
    work(
        store,
        Artifacts(here.artifacts_url),
        worker=f"{platform.node()}:{os.getpid()}",
        device=here.device,
        data_dir=here.data_dir,
        lease_seconds=here.lease_seconds,
        stop=draining,
        on_complete=publish,
    )
    store.close()
    if draining():
        nudge(UUID(run_id))  # the rest is for whoever comes next


def nudge(run_id: UUID) -> None:
    """Wake idle workers, because a run waits; kombu's OperationalError when the broker does not answer."""
    wake(evaluate, str(run_id))


def publish(run_id: UUID) -> None:
    """Tell the site that a run is complete."""
    app.send_task("site.publish", args=[str(run_id)])
