"""`manage.py publish`: bring the site up to date with the run store."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from evaluator.exceptions import InvalidRequest
from leaderboard import services


class Command(BaseCommand):
    """Publish what is complete."""

    help = "Publish complete runs and mirror failed ones; --rebuild makes all published numbers again."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--rebuild", action="store_true", help="make every entry again from the run store")

    def handle(self, *, rebuild: bool, **options: Any) -> None:
        """Sweep, or rebuild."""
        if rebuild:
            try:
                self.stdout.write(f"{services.rebuild()} entries made again")
            except InvalidRequest as error:
                raise CommandError(str(error)) from error
            return
        counts = services.sweep()
        self.stdout.write(", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "no submissions")
