"""`manage.py pack CHECKPOINT`: the evaluator's own command line, which knows no site."""

import sys

from django.core.management.base import BaseCommand

from evaluator.pack_cli import main


class Command(BaseCommand):
    """Hands the arguments on as they are: `python -m evaluator pack --help` describes them."""

    help = "Turn a PyTorch checkpoint into the file that is handed in, and check it as it will be there."

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the evaluator's command line with everything behind the command's name."""
        sys.exit(main(argv[2:], program="manage.py pack"))
