"""`manage.py import_reference`: the numbers that others reported, for comparison only."""

import csv
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from leaderboard import services
from leaderboard.analysis import PAPER

SETTING = "CIFAR-10, ResNet-18, average-case flatness at ξ = 0.5"


class Command(BaseCommand):
    """Import the rows of the paper's Table 1."""

    help = "Import the paper's Table 1 as reported results: shown apart, never ranked."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        default = settings.BASE_DIR / "fixtures" / "table1.csv"
        parser.add_argument("--file", type=Path, default=default, help="the table (default: fixtures/table1.csv)")

    def handle(self, *, file: Path, **options: Any) -> None:
        """Read the table; percentages become fractions."""
        try:
            with file.open(newline="") as stream:
                rows = [_reported(row) for row in csv.DictReader(stream)]
        except (OSError, KeyError, ValueError) as error:
            raise CommandError(
                f"{file} cannot be read as the table that fixtures/README.md describes: {error}"
            ) from error
        services.import_reported(PAPER, SETTING, rows)
        if options["verbosity"]:
            self.stdout.write(f"{len(rows)} rows of {PAPER}")


def _reported(row: dict[str, str]) -> services.Reported:
    values = {
        "robust_error_test": float(row["rerr_test"]) / 100,
        "robust_error_train": float(row["rerr_train"]) / 100,
        "robust_error_test_early_stopped": float(row["rerr_test_early_stopped"]) / 100,
        "flatness": float(row["flatness_avg"]),
    }
    return services.Reported(int(row["row"]), row["method"], row["group"], values)
