"""`manage.py serve`: the whole leaderboard on this machine."""

import os
import sys
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from leaderboard import services
from leaderboard.management.commands.worker import worker_commands
from leaderboard.supervision import manage, supervise


class Command(BaseCommand):
    """Serve the site and work for it until Ctrl-C."""

    help = "Serve the site on this machine, with a worker of each role; Ctrl-C stops all."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("address", nargs="?", default="127.0.0.1:8000", help="HOST:PORT (default: 127.0.0.1:8000)")
        parser.add_argument("--concurrency", type=int, default=1, help="evaluation processes (default: 1)")

    def handle(self, *, address: str, concurrency: int, **options: Any) -> None:
        """Make the tables of both stores, then run the web server and the workers side by side."""
        call_command("migrate", verbosity=0, interactive=False)
        services.run_store()
        self.stdout.write(f"The board: http://{address}/ (Ctrl-C stops it)", ending="\n")
        self.stdout.flush()
        os.environ["DJANGO_RUNSERVER_HIDE_WARNING"] = "true"  # local use is what this command is for
        web = manage("runserver", "--noreload", address)
        sys.exit(supervise([web, *worker_commands(concurrency)]))
