"""`manage.py evaluate CHECKPOINT`: the evaluator's own command line, which knows no site."""

import sys

from django.core.management.base import BaseCommand

from evaluator.cli import main


class Command(BaseCommand):
    """Hands the arguments on as they are: `python -m evaluator --help` describes them."""

    help = "Measure a checkpoint here with the code of a worker."

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the evaluator's command line with everything behind the command's name."""
        sys.exit(main(argv[2:], program="manage.py evaluate"))
