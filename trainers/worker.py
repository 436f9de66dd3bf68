"""The Celery application of training workers: `celery -A trainers.worker worker -P prefork -c 1 -Q training`.

They train recipes of our own, so nothing a stranger wrote runs in them. Torch is imported in the pool's child only,
which is spawned, as in measuring workers.
"""

from typing import Any

from celery import Celery
from celery.signals import setup_logging

from evaluator import logs, presence
from evaluator.artifacts import Artifacts
from evaluator.broker import TRAINING_QUEUE, broker_settings, tell, wake
from evaluator.draining import draining
from evaluator.environment import read_environment
from evaluator.store import Role, TrainingStore

app = Celery("trainers", set_as_current=False)


def _settings() -> dict[str, Any]:
    return broker_settings(read_environment().broker_url) | {
        "task_default_queue": TRAINING_QUEUE,
        "worker_pool_start_method": "spawn",
    }


app.add_defaults(_settings)  # read when first needed, not at import
presence.keep_present(app, Role.TRAINING)
setup_logging.connect(logs.set_up)


@app.task(name="trainers.train")  # type: ignore[untyped-decorator]  # Celery has no types
def train() -> None:
    """Train until nothing waits: the message only says that there is work."""
    from trainers.work import work  # imports torch, which the parent and the senders of messages must not

    here = read_environment()
    store = TrainingStore(here.run_store_url)
    work(
        store,
        Artifacts(here.artifacts_url),
        worker=presence.worker_name(),
        folder=here.training_dir,
        device=here.device,
        data_dir=here.data_dir,
        lease_seconds=here.lease_seconds,
        stop=draining,
        on_done=announce,
    )
    store.close()
    if draining():
        nudge()  # the rest is for whoever comes next


def nudge() -> None:
    """Wake idle workers, because a training waits; kombu's OperationalError when the broker does not answer."""
    wake(app, train.name)


def announce() -> None:
    """Tell the site that a training is done."""
    tell(app, "site.take_in")
