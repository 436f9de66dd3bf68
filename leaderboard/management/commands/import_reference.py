"""`manage.py import_reference`: the numbers that others reported, for comparison only."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from evaluator.exceptions import InvalidRequest
from leaderboard import services
from leaderboard.analysis import PAPER
from leaderboard.reported import ROBUSTBENCH, model_infos, model_zoo, table1


class Command(BaseCommand):
    """Import what the paper and RobustBench report."""

    help = "Import the paper's Table 1 and RobustBench's numbers as reported results: shown apart, never ranked."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        default = settings.BASE_DIR / "fixtures" / "table1.csv"
        parser.add_argument("--file", type=Path, default=default, help="the table (default: fixtures/table1.csv)")
        parser.add_argument(
            "--robustbench",
            type=Path,
            metavar="FOLDER",
            help="a clone of RobustBench's repository, whose model_info is read instead of fixtures/robustbench.csv",
        )

    def handle(self, *, file: Path, robustbench: Path | None, **options: Any) -> None:
        """Read all of it, then replace what was imported before."""
        left_out: list[str] = []
        try:
            found = {PAPER: table1(file)}
            if robustbench is None:
                found[ROBUSTBENCH] = model_zoo(settings.BASE_DIR / "fixtures" / "robustbench.csv")
            else:
                found[ROBUSTBENCH], left_out = model_infos(robustbench)
        except InvalidRequest as error:
            raise CommandError(str(error)) from error
        for reason in left_out:
            self.stderr.write(reason)
        for source, rows in found.items():
            services.import_reported(source, rows)
            if options["verbosity"]:
                self.stdout.write(f"{len(rows)} rows of {source}")
