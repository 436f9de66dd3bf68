"""`manage.py demo`: from real images to a ranked page with one command."""

import json
import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from evaluator.results import Measurement
from leaderboard import api, charts, demo, selectors, services
from leaderboard.models import State
from leaderboard.statistics import rank_correlation

COLUMNS = (
    "robust_error_test",
    "robust_error_train",
    "robust_loss_test",
    "robust_loss_train",
    "flatness_test",
    "flatness_train",
    "clean_error_test",
)


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
        folder = settings.BASE_DIR / "var" / "demo"
        folder.mkdir(parents=True, exist_ok=True)
        call_command("migrate", verbosity=0, interactive=False)
        services.run_store()
        call_command("import_reference", verbosity=0)
        try:
            with _progress(console, "epochs") as progress:
                variants = demo.train(folder / "training", processes=processes, report=_Bars(progress, "train"))
            submissions = demo.submit(variants)
            log = folder / "workers.log"
            with _progress(console, "shards") as progress, demo.running_workers(processes, log) as workers:
                demo.watch(submissions, workers, log, _Bars(progress, "evaluate"))
        except demo.WorkersEnded as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("interrupted; the same command goes on from here", returncode=130) from None
        for failed in (one for one in submissions if one.state == State.FAILED):
            console.print(f"[red]{failed.title} failed[/] ({failed.fault}): {failed.failure}")
        self._show(console, folder)
        if any(one.state == State.FAILED for one in submissions):
            raise CommandError("some variants could not be evaluated; their reasons stand above")

    def _show(self, console: Console, folder: Path) -> None:
        board = selectors.board(demo.PROTOCOL)
        (folder / "board.json").write_text(json.dumps(api.board_json(demo.PROTOCOL), indent=2) + "\n")
        figure = charts.board_figure(board, theme="light")
        (folder / "rloss-flatness.svg").write_text(charts.render_svg(figure))
        (folder / "rloss-flatness.png").write_bytes(charts.render_png(figure))
        console.print(_table(board))
        console.print(_claim(board), highlight=False)
        console.print(f"\nboard    {folder / 'board.json'}", highlight=False, soft_wrap=True)
        console.print(f"picture  {folder / 'rloss-flatness.png'} (and .svg)", highlight=False, soft_wrap=True)
        console.print("site     make serve, then http://127.0.0.1:8000/", highlight=False)


class _Bars:
    """One progress bar a variant, made when it is first heard of."""

    def __init__(self, progress: Progress, verb: str) -> None:
        self._progress = progress
        self._verb = verb
        self._bars: dict[str, Any] = {}

    def __call__(self, title: str, done: int, total: int) -> None:
        if title not in self._bars:
            self._bars[title] = self._progress.add_task(f"{self._verb} {title}", total=total)
        self._progress.update(self._bars[title], completed=done)


def _progress(console: Console, unit: str) -> Progress:
    return Progress(
        TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
        TimeElapsedColumn(), TextColumn("eta"), TimeRemainingColumn(), console=console,
    )  # fmt: skip  # one column of the display an argument


def _table(board: selectors.Board) -> Table:
    protocol = board.protocol
    counts = protocol.autoattack_examples
    table = Table(
        title=f"{protocol.label}: robust error on {counts.test} test and {counts.train} train examples, "
        f"robust loss and flatness on {protocol.robust_loss_examples.test} and {protocol.robust_loss_examples.train}",
        caption="± half the 95 % interval · ranks with the same = sign cannot be told apart at 5 %",
        title_justify="left", box=SIMPLE, pad_edge=False,
    )  # fmt: skip
    table.add_column("rank", justify="right")
    table.add_column("entry")
    for key in COLUMNS:
        column = selectors.COLUMNS[key]
        table.add_column(f"{column.title} {column.metric.direction.arrow}", justify="right")
    for row in board.rows:
        standing = row.standing
        rank = f"{standing.rank} ={standing.tied_with}" if standing else "–"
        table.add_row(rank, row.title, *(_cell(key, row.numbers[key]) for key in COLUMNS))
    return table


def _cell(key: str, number: Measurement) -> str:
    half = (number.high - number.low) / 2
    if "error" in key:
        return f"{number.value:.1%} ±{100 * half:.1f}"
    return f"{number.value:.2f} ±{half:.2f}"


def _claim(board: selectors.Board) -> str:
    """State the paper's claim with what this board says about it, whatever it is."""
    lines = ["The paper's claim: robust loss on test goes with flatness. Here, Spearman's ρ [95 % interval]:"]
    trained = [row for row in board.rows if row.numbers["robust_error_train"].value < 1]
    for name, rows in (("all entries", board.rows), ("those with some robustness on train", trained)):
        for against in ("flatness_test", "flatness_train"):
            found = rank_correlation(
                [row.numbers[against].value for row in rows], [row.numbers["robust_loss_test"].value for row in rows]
            )
            said = f"{found.rho:.2f} [{found.low:.2f}, {found.high:.2f}], n = {found.n}" if found else "too few entries"
            lines.append(f"  RLoss test with {selectors.COLUMNS[against].title}, {name}: {said}")
    return "\n".join(lines)
