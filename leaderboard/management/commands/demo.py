"""`manage.py demo`: from real images to a ranked page with one command."""

import json
import os
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluator.metrics import METRICS, Unit
from evaluator.results import Measurement
from leaderboard import board_api, board_chart, charts, demo, references, report, selectors, services
from leaderboard.models import State, Submission
from leaderboard.progress import Each, bars
from leaderboard.statistics import rank_correlation
from trainers.recipe import load_recipe

COLUMNS = ("robust_error_test", "robust_error_train", "robust_loss_test", "flatness_test", "flatness_train")
"""What fits a terminal of 80 characters; board.json has the rest."""

WITH_INTERVAL = ("robust_error_test", "robust_loss_test", "flatness_test")


class Command(BaseCommand):
    """Train, submit, evaluate, publish, show; killed and started again, it goes on where it was."""

    help = "Train reference variants on the bundled digits, evaluate them by real workers and print the ranked board."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        cores = os.cpu_count() or 1
        parser.add_argument("--processes", type=int, default=min(cores, 8), help=f"at once (default here: {cores})")

    def handle(self, *, processes: int, **options: Any) -> None:
        """Run the demo."""
        console = Console()
        demo.FOLDER.mkdir(parents=True, exist_ok=True)
        call_command("migrate", verbosity=0, interactive=False)
        services.run_store()
        call_command("import_reference", verbosity=0)
        try:
            with bars(console, "epochs", width=32) as progress:
                variants = demo.train(processes=processes, report=Each(progress, "train"))
            submissions = demo.submit(variants)
            if references.unfinished(submissions):
                self._evaluate(console, submissions, processes)
        except references.WorkersEnded as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("interrupted; the same command goes on from here", returncode=130) from None
        for failed in (one for one in submissions if one.state == State.FAILED):
            console.print(f"[red]{escape(failed.title)} failed[/] ({failed.fault}): {escape(failed.failure)}")
        self._show(console, demo.FOLDER)
        if any(one.state == State.FAILED for one in submissions):
            raise CommandError("some variants could not be evaluated; their reasons stand above")

    def _evaluate(self, console: Console, submissions: list[Submission], processes: int) -> None:
        log = demo.FOLDER / "workers.log"
        with bars(console, "examples", width=32) as progress, references.running_workers(processes, log) as workers:
            references.watch(submissions, workers, log, Each(progress, "evaluate"))

    def _show(self, console: Console, folder: Path) -> None:
        board = selectors.board(demo.PROTOCOL)
        (folder / "board.json").write_text(json.dumps(board_api.board_json(demo.PROTOCOL), indent=2) + "\n")
        figure = board_chart.board_figure(board, theme="light")
        (folder / "rloss-flatness.svg").write_text(charts.render_svg(figure))
        (folder / "rloss-flatness.png").write_bytes(charts.render_png(figure))
        console.print(_table(board))
        console.print(_claim(board), highlight=False, soft_wrap=True)
        console.print(f"\nboard    {folder / 'board.json'}", highlight=False, soft_wrap=True)
        console.print(f"picture  {folder / 'rloss-flatness.png'} (and .svg)", highlight=False, soft_wrap=True)
        *_, place = report.write(demo.STUDY, folder / "report")
        console.print(place.replace("report: ", "report   "), highlight=False, soft_wrap=True)
        console.print("site     make serve, then http://127.0.0.1:8000/", highlight=False)


def _table(board: selectors.Board) -> Table:
    protocol = board.protocol
    attacked, measured = protocol.autoattack_examples, protocol.robust_loss_examples
    table = Table(
        title=f"{protocol.label}: RErr on {attacked.test} test and {attacked.train} train examples, "
        f"RLoss and flatness on {measured.test} and {measured.train}",
        caption="± half the 95 % interval · '=1': not to be told from rank 1 at 5 %",
        title_justify="left", caption_justify="left", box=None,
        pad_edge=False, padding=(0, 1, 0, 0), header_style="bold",
    )  # fmt: skip  # what the table says stands together
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("entry", no_wrap=True)
    for key in COLUMNS:
        metric, split = selectors.COLUMNS[key].metric, selectors.COLUMNS[key].split
        table.add_column(f"{metric.symbol}\n{split} {metric.direction.arrow}", justify="right", no_wrap=True)
    for row in board.rows:
        rank = f"{row.standing.rank} ={row.standing.tied_with}" if row.standing else "–"
        table.add_row(rank, row.title, *(_cell(key, row.numbers[key]) for key in COLUMNS))
    return table


def _cell(key: str, number: Measurement) -> str:
    scale, form, unit = (100, ".1f", "%") if METRICS[number.metric].unit is Unit.FRACTION else (1, ".2f", "")
    value = f"{scale * number.value:{form}}{unit}"
    half = scale * (number.high - number.low) / 2
    return f"{value} ±{half:{form}}" if key in WITH_INTERVAL else value


def _claim(board: selectors.Board) -> str:
    """State the paper's claim with what this board says about it, whatever it is."""
    control = load_recipe(demo.CONTROL).title
    trained = [row for row in board.rows if row.title != control]
    lines = ["The paper: robust loss on test goes with flatness. Here, Spearman's ρ [95 % interval]:"]
    for rows, name in ((trained, "adversarially trained"), (board.rows, "all, with the clean control")):
        losses = [row.numbers["robust_loss_test"].value for row in rows]
        for key in ("flatness_test", "flatness_train"):
            found = rank_correlation([row.numbers[key].value for row in rows], losses)
            said = f"{found.rho:+.2f} [{found.low:+.2f}, {found.high:+.2f}]" if found else "too few entries"
            lines.append(f"  RLoss test with {selectors.COLUMNS[key].title:<15} {said}  {name}, n = {len(rows)}")
    return "\n".join(lines)
