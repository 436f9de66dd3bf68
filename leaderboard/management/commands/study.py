"""`manage.py study FAMILY`: the paper's table and figures, from trainings of our own."""

import os
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.markup import escape

from evaluator.environment import read_environment
from evaluator.exceptions import EvaluatorError
from leaderboard import references, report, services
from leaderboard.analysis import STUDIES
from leaderboard.models import State, Submission
from leaderboard.progress import Total, bars
from leaderboard.study import FOLDER, Plan


class Command(BaseCommand):
    """Train, submit, evaluate, publish, report; interrupted and started again, it goes on where it was."""

    help = "Train all variants of a family with several seeds, evaluate them and write the paper's table and figures."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        cores = os.cpu_count() or 1
        parser.add_argument("family", nargs="?", default="digits", choices=STUDIES, help="default: digits")
        parser.add_argument("--seeds", type=int, default=3, metavar="N", help="of each variant: 0 … N − 1 (default: 3)")
        parser.add_argument("--variants", nargs="+", default=(), metavar="NAME", help="these alone (default: all)")
        parser.add_argument("--no-sweeps", action="store_true", help="leave out the swept settings of Fig. 6")
        parser.add_argument("--processes", type=int, default=min(cores, 8), help=f"at once (default here: {cores})")
        parser.add_argument("--report-only", action="store_true", help="write the report from what is published")

    def handle(self, *, family: str, seeds: int, variants: list[str], processes: int, **options: Any) -> None:
        """Run the study."""
        for name, value in (("--seeds", seeds), ("--processes", processes)):
            if value < 1:
                raise CommandError(f"{name} is a count of at least 1, got {value}")
        console = Console()
        study = STUDIES[family]
        folder = FOLDER / family
        folder.mkdir(parents=True, exist_ok=True)
        call_command("migrate", verbosity=0, interactive=False)
        services.run_store()
        call_command("import_reference", verbosity=0)
        submissions: list[Submission] = []
        try:
            if not options["report_only"]:
                plan = Plan.of(study, seeds=seeds, variants=variants, sweeps=not options["no_sweeps"])
                submissions = self._measured(console, plan, folder, processes)
        except (EvaluatorError, references.WorkersEnded) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("interrupted; the same command goes on from here", returncode=130) from None
        for failed in (one for one in submissions if one.state == State.FAILED):
            console.print(f"[red]{escape(failed.title)} failed[/] ({failed.fault}): {escape(failed.failure)}")
        for line in report.write(study, folder / "report"):
            console.print(line, highlight=False, soft_wrap=True)

    def _measured(self, console: Console, plan: Plan, folder: Path, processes: int) -> list[Submission]:
        with bars(console, "epochs", width=12) as progress:
            trained = plan.train(
                folder=read_environment().training_dir, processes=processes, report=Total(progress, "training")
            )
        submissions = plan.submit(trained)
        if references.unfinished(submissions):
            log = folder / "workers.log"
            with bars(console, "examples", width=12) as progress, references.running_workers(processes, log) as workers:
                references.watch(submissions, workers, log, Total(progress, "evaluating"))
        return submissions
