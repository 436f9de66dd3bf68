"""`manage.py train RECIPE`: the trainers' own command line, with a site to submit to and a queue."""

import sys
from collections.abc import Sequence
from pathlib import Path

from django.core.management.base import BaseCommand
from django.db import DatabaseError, transaction

from evaluator.exceptions import InvalidRequest
from evaluator.protocol import EvaluationProtocol
from evaluator.store import Queued, TrainingOrder
from leaderboard import services, trail
from leaderboard.models import Submission
from trainers.cli import Site, main


class Command(BaseCommand):
    """Hands the arguments on as they are; `python -m trainers` is the same without a site."""

    help = "Train a reference variant here, and submit it if asked, or queue many for workers; the same call goes on."

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the trainers' command line with everything behind the command's name."""
        sys.exit(main(argv[2:], program="manage.py train", open_site=_open_site))


class _Site:
    def submit(self, checkpoint: Path, title: str, protocol: EvaluationProtocol) -> str:
        submission = services.submit(checkpoint, title=title, protocol=protocol, is_reference=True)
        return f"{submission.title!r} under {protocol.label}: {submission.state}; workers measure it (manage.py worker)"

    def queue(self, orders: Sequence[TrainingOrder]) -> Queued:
        with transaction.atomic():
            queued = services.queue_trainings(orders)
            if queued.trainings:
                trail.record(None, "train", subject=f"{queued.trainings} trainings, from {orders[0].title} on")
        return queued


def _open_site() -> Site:
    """Return the way to submit and to queue, once both stores have answered."""
    try:
        Submission.objects.exists()
    except DatabaseError as error:
        raise InvalidRequest(f"the site's database cannot be used ({error}); run manage.py migrate first") from error
    services.run_store()
    return _Site()
