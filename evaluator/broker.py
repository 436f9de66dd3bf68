"""How Celery speaks to the broker, for all applications of the project (torch-free). A message is a hint, no record.

Without a server the queue is a SQLite file. kombu's SQL transport carries it, with three habits changed: it polls ten
times a second, makes its tables and queues under a file lock, and deletes a message once it is delivered.
"""

# mypy: allow-untyped-calls
# (kombu says that it is typed, but most of it is not)

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_init
from kombu.exceptions import OperationalError
from kombu.transport import sqlalchemy as sql

EVALUATION_QUEUE = "evaluation"
TRAINING_QUEUE = "training"
SITE_QUEUE = "site"

WAKE_UPS = 8
"""How many messages wait at most: each idle worker takes one (and may hold a second), a busy one none."""

_START_SECONDS = 120.0
"""How long a child of a pool may take to start. Celery's 4 seconds are too few on a busy machine, where it would kill
and start child after child for as long as the machine is busy with just that."""

_EMBEDDED = "sqla+"
_LOCK_SECONDS = 20

log = logging.getLogger(__name__)


class Channel(sql.Channel):
    """kombu's SQL channel over one SQLite file."""

    def _open(self) -> Any:
        with self._alone():
            return super()._open()

    def _new_queue(self, queue: str, **options: Any) -> None:
        _ = self.session  # opened here, because opening takes the lock too
        with self._alone():
            super()._new_queue(queue, **options)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        message = super()._get(queue)
        self._query_all(queue).filter(self.message_cls.visible.is_(False)).delete(synchronize_session=False)
        self.session.commit()
        return message

    @contextmanager
    def _alone(self) -> Iterator[None]:
        file = Path(self.connection.client.hostname.removeprefix("sqlite:///"))
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.with_name(f"{file.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Transport(sql.Transport):
    """kombu's SQL transport over one SQLite file."""

    Channel = Channel
    polling_interval = 0.1


def _keep_to_itself(sender: Any, **_: object) -> None:
    """Let a worker hear messages only, and not other workers: it needs none, and after a broker was away it may fail to
    listen to them again (celery's "Error on restarting Gossip").
    """
    sender.options |= {"without_gossip": True, "without_mingle": True}


worker_init.connect(_keep_to_itself)


def wake(app: Celery, task: str, *arguments: str) -> None:
    """Wake idle workers by messages for `task`; kombu's OperationalError when the broker does not answer.

    Wake-ups are filled up to `WAKE_UPS` rather than added, so that any number of calls cannot fill the queue. The task
    goes by its name, for in a spawned child of a worker it would belong to a copy of `app` that knows no broker.
    """
    with app.connection_for_write() as connection:
        queue = app.amqp.router.route({}, task)["queue"]
        waiting = connection.ensure(
            connection, lambda: queue.bind(connection.default_channel).queue_declare().message_count, max_retries=1
        )()
    for _ in range(WAKE_UPS - waiting):
        app.send_task(task, args=arguments)


def tell(app: Celery, task: str, *arguments: str) -> None:
    """Send one message for a task of another room; work goes on where the broker does not answer."""
    try:
        app.send_task(task, args=arguments)
    except OperationalError as error:
        log.warning("%s %s: the broker does not answer (%s); the site's next sweep will see it", task, arguments, error)


def broker_settings(url: str) -> dict[str, Any]:
    """Return what each Celery application of the project sets, for a broker at `url`."""
    embedded = url.startswith(_EMBEDDED)
    settings: dict[str, Any] = {
        "broker_url": url.removeprefix(_EMBEDDED),
        "broker_connection_retry_on_startup": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_acks_late": False,
        "task_routes": {
            "evaluator.*": {"queue": EVALUATION_QUEUE},
            "trainers.*": {"queue": TRAINING_QUEUE},
            "site.*": {"queue": SITE_QUEUE},
        },
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "worker_proc_alive_timeout": _START_SECONDS,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_remote_control": not embedded,  # it needs fanout, which a table has not
    }
    if embedded:
        settings |= {
            "broker_transport": f"{__name__}:{Transport.__name__}",
            "broker_transport_options": {"connect_args": {"timeout": _LOCK_SECONDS}},
        }
    return settings
