"""`manage.py worker`: evaluate, publish, or both."""

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from evaluator.lifetime import end_with_parent
from leaderboard.celery import app
from leaderboard.supervision import manage, supervise

_SECRETS = ("DATABASE_URL", "SECRET_KEY", "DJANGO_SETTINGS_MODULE")
"""What a process that opens strangers' weights has no business with."""

_KEEP = str(1 << 30)


class Command(BaseCommand):
    """Run a worker until it is stopped."""

    help = "Run a worker: evaluation (measures; knows nothing of the site), site (publishes and sweeps), or all."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--role", choices=("evaluation", "site", "all"), default="all")
        parser.add_argument("--concurrency", type=int, default=1, help="evaluation processes (default: 1)")
        parser.add_argument("--end-with-parent", action="store_true", help="stop when the starting process is gone")

    def handle(self, *, role: str, concurrency: int, **options: Any) -> None:
        """Become the worker."""
        if options["end_with_parent"]:
            end_with_parent()
        match role:
            case "evaluation":
                become_evaluation_worker(concurrency)
            case "site":
                app.worker_main(["--quiet", "worker", "--pool=solo", "--beat", "--queues=site", "--loglevel=WARNING"])
            case _:
                sys.exit(supervise(worker_commands(concurrency)))


def worker_commands(concurrency: int) -> list[list[str]]:
    """Return the command lines of one evaluation worker and one site worker that do not outlive who starts them."""
    evaluation = manage("worker", "--role=evaluation", f"--concurrency={concurrency}", "--end-with-parent")
    return [evaluation, manage("worker", "--role=site", "--end-with-parent")]


def become_evaluation_worker(concurrency: int) -> None:
    """Replace this process by a Celery worker without Django and without the site's secrets."""
    command = [sys.executable, "-m", "celery", "--app=evaluator.worker", "worker", "--pool=prefork"]
    options = [f"--concurrency={concurrency}", "--queues=evaluation", f"--hostname=evaluation-{os.getpid()}@%h"]
    environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
    # glibc would otherwise give large blocks back to the system at every step of an attack and ask for them again.
    environment = {"MALLOC_MMAP_THRESHOLD_": _KEEP, "MALLOC_TRIM_THRESHOLD_": _KEEP} | environment
    os.chdir(settings.BASE_DIR)
    os.execvpe(sys.executable, [*command, *options, "--loglevel=INFO"], environment)  # noqa: S606  # no shell wanted
