"""The only place of the site that speaks to the broker and names a task.

A message is a hint: lost or repeated, the sweep makes it good.
"""

import logging
from collections.abc import Callable
from functools import partial
from uuid import UUID

from django.db import transaction
from kombu.exceptions import OperationalError

from evaluator import worker as evaluation
from evaluator.broker import EVALUATION_QUEUE, SITE_QUEUE, TRAINING_QUEUE
from leaderboard.celery import app
from trainers import worker as training

log = logging.getLogger(__name__)


def evaluate(run_id: UUID) -> None:
    """Tell the evaluation workers, once the transaction is committed, that a run waits."""
    transaction.on_commit(partial(_hint, evaluation.nudge, run_id))


def train() -> None:
    """Tell the training workers, once the transaction is committed, that a training waits."""
    transaction.on_commit(partial(_hint, training.nudge))


def waiting() -> dict[str, int]:
    """Return how many wake-ups wait in each queue; kombu's OperationalError when the broker does not answer."""
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
        channel = connection.default_channel
        return {
            queue: channel.queue_declare(queue).message_count
            for queue in (EVALUATION_QUEUE, TRAINING_QUEUE, SITE_QUEUE)
        }


def _hint(send: Callable[..., None], *about: UUID) -> None:
    try:
        send(*about)
    except OperationalError as error:
        log.warning("the broker does not answer (%s); the sweep will wake the workers again", error)
