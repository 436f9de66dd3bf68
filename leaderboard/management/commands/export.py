"""`manage.py export FOLDER`: the public site as files that need no server, with all its data."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from evaluator.exceptions import EvaluatorError
from leaderboard.export import export


class Command(BaseCommand):
    """Copy the site."""

    help = "Write the whole public site as static files, with entries and measurements as JSON, CSV and Parquet."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("folder", type=Path, help="where to; an earlier export there is replaced at the end")

    def handle(self, *, folder: Path, **options: Any) -> None:
        """Export, and say what is left out."""
        try:
            exported = export(folder)
        except (EvaluatorError, OSError) as error:
            raise CommandError(str(error)) from error
        for note in exported.notes:
            self.stderr.write(note)
        self.stdout.write(f"{len(exported.files)} files; open {folder / 'index.html'}")
