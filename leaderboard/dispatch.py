"""The only place of the site that names a task. A message is a hint: lost or repeated, the sweep makes it good."""

import logging
from collections.abc import Callable
from functools import partial
from uuid import UUID

from django.db import transaction
from kombu.exceptions import OperationalError

from evaluator import worker

log = logging.getLogger(__name__)


def evaluate(run_id: UUID) -> None:
    """Tell the evaluation workers, once the transaction is committed, that a run waits."""
    transaction.on_commit(partial(_hint, worker.nudge, run_id))


def _hint(send: Callable[[UUID], None], run_id: UUID) -> None:
    try:
        send(run_id)
    except OperationalError as error:
        log.warning("the broker does not answer (%s); the sweep will nudge run %s again", error, run_id)
