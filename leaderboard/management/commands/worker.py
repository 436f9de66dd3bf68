"""`manage.py worker`: evaluate, train, publish, or all of it."""

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from leaderboard.celery import app
from leaderboard.supervision import manage, supervise

APPLICATIONS = {"evaluation": "evaluator.worker", "training": "trainers.worker"}
"""Celery's applications by role, which is the name of their queue too."""

_SECRETS = ("DATABASE_URL", "SECRET_KEY", "METRICS_TOKEN", "DJANGO_SETTINGS_MODULE")
"""What a process that opens strangers' weights, or only trains, has no business with."""

_KEEP = str(1 << 30)


class Command(BaseCommand):
    """Run a worker until it is stopped."""

    help = "Run a worker: evaluation (measures) or training, which know nothing of the site, site (publishes), or all."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--role", choices=(*APPLICATIONS, "site", "all"), default="all")
        parser.add_argument(
            "--concurrency",
            type=int,
            default=1,
            help="processes that measure or train (default: 1); of all, those that measure",
        )
        parser.add_argument(
            "--drain", action="store_true", help="with --role=evaluation: without a broker, until nothing waits"
        )

    def handle(self, *, role: str, concurrency: int, **options: Any) -> None:
        """Become the worker."""
        if options["drain"] and (role, concurrency) != ("evaluation", 1):
            raise CommandError("--drain is for --role=evaluation in one process; start one for each device")
        match role:
            case "evaluation" if options["drain"]:
                become([sys.executable, "-m", APPLICATIONS[role]])
            case "evaluation" | "training":
                become(celery_command(role, concurrency))
            case "site":
                app.worker_main(["--quiet", "worker", "--pool=solo", "--beat", "--queues=site", "--loglevel=WARNING"])
            case _:
                sys.exit(supervise(worker_commands(concurrency)))


def worker_commands(concurrency: int) -> list[list[str]]:
    """Return the command lines of a worker of each role."""
    roles = ["--role=evaluation", f"--concurrency={concurrency}"], ["--role=training"], ["--role=site"]
    return [manage("worker", *role) for role in roles]


def celery_command(role: str, concurrency: int) -> list[str]:
    """Return the command line of a Celery worker that measures or trains."""
    command = [sys.executable, "-m", "celery", f"--app={APPLICATIONS[role]}", "worker", "--pool=prefork"]
    options = [f"--concurrency={concurrency}", f"--queues={role}", f"--hostname={role}-{os.getpid()}@%h"]
    return [*command, *options, "--loglevel=INFO"]


def become(command: list[str]) -> None:
    """Replace this process by another without Django and without the site's secrets."""
    environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
    # glibc would otherwise give large blocks back to the system at every step of an attack and ask for them again.
    environment = {"MALLOC_MMAP_THRESHOLD_": _KEEP, "MALLOC_TRIM_THRESHOLD_": _KEEP} | environment
    os.chdir(settings.BASE_DIR)
    os.execvpe(command[0], command, environment)  # noqa: S606  # no shell wanted
