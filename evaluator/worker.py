"""The Celery application of measuring workers: `celery -A evaluator.worker worker -P prefork -c 1 -Q evaluation`.

Torch is imported in the pool's child only, which is spawned: a child forked after any torch operation deadlocks.
"""

import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

from celery import Celery
from celery.signals import worker_init, worker_shutdown, worker_shutting_down

from evaluator.artifacts import Artifacts
from evaluator.broker import EVALUATION_QUEUE, broker_settings
from evaluator.environment import read_environment
from evaluator.store import RunStore

WAKE_UPS = 8
"""How many messages wait at most: each idle worker takes one (and may hold a second), a busy one none."""

_DRAIN = "EVALUATION_DRAIN_FILE"
"""Names the file by whose existence a worker tells its child to hand its shard back and end."""

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
        stop=_draining,
        on_complete=publish,
    )
    store.close()
    if _draining():
        nudge(UUID(run_id))  # the rest is for whoever comes next


def nudge(run_id: UUID) -> None:
    """Wake idle workers, because a run waits; kombu's OperationalError when the broker does not answer.

    Wake-ups are filled up to `WAKE_UPS` rather than added, so that any number of nudges cannot fill the queue.
    """
    with app.connection_for_write() as connection:
        queue = app.amqp.queues[EVALUATION_QUEUE]
        waiting = connection.ensure(
            connection, lambda: queue.bind(connection.default_channel).queue_declare().message_count, max_retries=1
        )()
    for _ in range(WAKE_UPS - waiting):
        evaluate.delay(str(run_id))


def publish(run_id: UUID) -> None:
    """Tell the site that a run is complete."""
    app.send_task("site.publish", args=[str(run_id)])


def _draining() -> bool:
    return _DRAIN in os.environ and Path(os.environ[_DRAIN]).exists()


def _name_drain_file(**_: object) -> None:
    os.environ[_DRAIN] = str(Path(tempfile.mkdtemp(prefix="evaluation-worker-")) / "drain")


def _drain(**_: object) -> None:
    Path(os.environ[_DRAIN]).touch()


def _remove_drain_file(**_: object) -> None:
    shutil.rmtree(Path(os.environ.pop(_DRAIN)).parent)


worker_init.connect(_name_drain_file)
worker_shutting_down.connect(_drain)
worker_shutdown.connect(_remove_drain_file)
