"""`python -m trainers RECIPE [key=value ...]`: train one variant here; the only module of this room that prints.

The same call goes on where an interrupted one was last saved. Where there is a site, trainings can be queued for its
workers instead.

Exit codes: 0 done · 1 a failure of ours · 2 the request is wrong, or its data are missing · 130 interrupted.
"""

import argparse
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from evaluator.environment import read_environment
from evaluator.exceptions import EvaluatorError, Fault, InvalidRequest
from evaluator.protocol import EvaluationProtocol
from evaluator.store import Queued, TrainingOrder, TrainingStore
from trainers.differences import listing, markdown
from trainers.folder import Files, training_folder
from trainers.orders import orders, protocol_for
from trainers.recipe import Recipe, list_recipes, load_recipe

if TYPE_CHECKING:
    from trainers.loop import EpochRecord
    from trainers.tensorboard import TensorBoard


class Site(Protocol):
    """Where trained variants go."""

    def submit(self, checkpoint: Path, title: str, protocol: EvaluationProtocol) -> str:
        """Hand in a checkpoint under a title, to be measured by a protocol; return what to tell about it."""

    def queue(self, orders: Sequence[TrainingOrder]) -> Queued:
        """Let workers train, and the site hand in, what was not ordered before."""


def parser(program: str, *, submits: bool) -> argparse.ArgumentParser:
    """Return the argument parser; `--submit` is there where there is a site to submit to."""
    arguments = argparse.ArgumentParser(
        prog=program,
        description="Train a reference variant. The same call goes on where an interrupted one was last saved.",
    )
    arguments.add_argument("recipe", nargs="?", help="family/variant, for example digits/at; --list shows all")
    arguments.add_argument("changes", nargs="*", metavar="key=value", help="a setting, as in optimizer.momentum=0.8")
    arguments.add_argument("--seed", type=int, default=0, metavar="N", help="of every random draw (default: 0)")
    arguments.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:n")
    arguments.add_argument("--data-dir", type=Path, metavar="DIR", help="data sets not bundled (default: DATA_DIR)")
    arguments.add_argument(
        "--folder", type=Path, metavar="DIR", help="of state, log and checkpoints (default: in TRAINING_DIR)"
    )
    arguments.add_argument("--resume", action="store_true", help="go on, as any call does, but never begin anew")
    arguments.add_argument(
        "--save-every", type=int, default=10, metavar="N", help="epochs between saved states (default: 10)"
    )
    arguments.add_argument("--tensorboard", action="store_true", help="write the log for TensorBoard too")
    arguments.add_argument("--protocol", help="to measure by (default: the first that ranks the data set)")
    if submits:
        arguments.add_argument("--submit", action="store_true", help="hand in the checkpoint as a reference entry")
        arguments.add_argument("--title", help="of the entry (default: the recipe's, with what was changed)")
        arguments.add_argument("--queue", action="store_true", help="let workers train and submit it, instead of here")
        arguments.add_argument("--all", action="store_true", help="queue every recipe, of --family or of all families")
        arguments.add_argument("--seeds", type=int, metavar="N", help="queue N seeds, from --seed on")
        arguments.add_argument("--jobs", action="store_true", help="print how far everything queued is")
    arguments.add_argument("--list", action="store_true", help="print all recipes, each with its differences")
    arguments.add_argument("--markdown", action="store_true", help="print the list as docs/training.md has it")
    arguments.add_argument("--family", metavar="NAME", help="only recipes of one family (with --list or --all)")
    arguments.add_argument("--print-config", action="store_true", help="print the complete recipe as JSON")
    return arguments


def main(
    argv: Sequence[str] | None = None,
    program: str = "python -m trainers",
    open_site: Callable[[], Site] | None = None,
) -> int:
    """Do what the arguments say; return the exit code. `open_site` fails before a training that it could not take."""
    arguments = parser(program, submits=open_site is not None).parse_intermixed_args(argv)
    messages, output = Console(stderr=True, quiet=not _speaks()), Console(quiet=not _speaks())
    try:
        if arguments.list:
            recipes = list_recipes(arguments.family)
            _print_lines(output, markdown(recipes) if arguments.markdown else listing(recipes))
        elif arguments.print_config:
            _print_lines(output, [_recipe(arguments).model_dump_json(indent=2)])
        elif open_site is not None and arguments.jobs:
            _print_lines(output, _jobs())
        elif open_site is not None and (arguments.queue or arguments.all or arguments.seeds is not None):
            _print_lines(output, [_queue(_orders(arguments), open_site())])
        else:
            _print_lines(output, _train(arguments, messages, open_site))
    except EvaluatorError as error:
        messages.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 1 if error.fault is Fault.OURS else 2
    except KeyboardInterrupt:
        messages.print("interrupted; the same command goes on from the last saved epoch")
        return 130
    return 0


def _speaks() -> bool:
    """Whether this process prints: of those that torchrun starts, one does."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["RANK"] == "0"


def _print_lines(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _recipe(arguments: argparse.Namespace) -> Recipe:
    if arguments.recipe is None:
        raise InvalidRequest("no recipe was named; name one, such as digits/at, or ask for --list")
    return load_recipe(f"{arguments.recipe} {shlex.join(arguments.changes)}")


def _train(arguments: argparse.Namespace, messages: Console, open_site: Callable[[], Site] | None) -> list[str]:
    """Train and, when asked, submit; return what to say about it. Whatever can be refused is refused first."""
    from trainers.loop import train
    from trainers.processes import Processes, joined
    from trainers.tensorboard import TensorBoard

    recipe = _recipe(arguments)
    if arguments.save_every < 1:
        raise InvalidRequest(f"--save-every counts epochs and is at least 1, got {arguments.save_every}")
    protocol = protocol_for(recipe, arguments.protocol)
    folder = _folder(arguments, recipe)
    if arguments.resume and not Files(folder).state.exists():
        raise InvalidRequest(f"no training was saved in {folder}; leave out --resume to begin one")
    data_dir = arguments.data_dir or read_environment().data_dir
    site = open_site() if open_site is not None and arguments.submit else None
    if site is not None and protocol is None:
        raise InvalidRequest(f"no protocol ranks models of {recipe.dataset}; name one with --protocol")
    board = TensorBoard(folder / "tensorboard") if arguments.tensorboard else None
    with joined(arguments.device) as device, _Live(messages, recipe, board) as live:
        count = Processes.present().count
        where = f"{device.type}, {count} processes" if count > 1 else str(device)
        _print_lines(messages, [f"{recipe.name}, seed {arguments.seed}, on {where}, in {folder}"])
        variant = train(
            recipe,
            seed=arguments.seed,
            folder=folder,
            device=str(device),
            data_dir=data_dir,
            progress=live.show,
            save_every=arguments.save_every,
        )
    if not live.heard:
        _print_lines(messages, ["was finished before; nothing was trained"])
    said = [f"checkpoint  {variant.checkpoint}", f"log         {variant.log}"]
    if protocol is not None:
        command = ("python", "-m", "evaluator", str(variant.checkpoint), "--protocol", protocol.name)
        said.append(f"measure     {shlex.join(command)}")
        if site is not None and _speaks():
            said.append(f"submission  {site.submit(variant.checkpoint, _title(arguments, recipe), protocol)}")
    return said


def _folder(arguments: argparse.Namespace, recipe: Recipe) -> Path:
    """Return the folder to train in: the named one, else one of its own, or that of a recipe with the same training."""
    if arguments.folder is None:
        return training_folder(read_environment().training_dir, recipe, arguments.seed)
    folder: Path = arguments.folder.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise InvalidRequest(f"--folder is {folder}, but {there} is no folder that can be written to; name another")
    return folder


def _title(arguments: argparse.Namespace, recipe: Recipe) -> str:
    """Return the named title, else one that tells variants of a recipe apart."""
    return recipe.label(arguments.seed) if arguments.title is None else str(arguments.title)


def _orders(arguments: argparse.Namespace) -> list[TrainingOrder]:
    """Return what is asked of the workers: each recipe with each seed, handed in under its protocol."""
    if arguments.all and arguments.recipe is not None:
        raise InvalidRequest(f"--all queues every recipe, but {arguments.recipe} was named too; leave one of them out")
    for given, option in ((arguments.folder, "--folder"), (arguments.submit, "--submit")):
        if given:
            raise InvalidRequest(f"{option} is for trainings here; workers have their own folder, and all is submitted")
    count = 1 if arguments.seeds is None else arguments.seeds
    if count < 1:
        raise InvalidRequest(f"--seeds counts seeds and is at least 1, got {count}")
    recipes = list_recipes(arguments.family) if arguments.all else [_recipe(arguments)]
    if arguments.title is not None and count * len(recipes) > 1:
        raise InvalidRequest(f"--title names one entry, but {count * len(recipes)} would be queued; leave it out")
    return orders(recipes, seed=arguments.seed, count=count, protocol=arguments.protocol, title=arguments.title)


def _queue(orders: Sequence[TrainingOrder], site: Site) -> str:
    queued = site.queue(orders)
    if not queued.trainings and not queued.hand_ins:
        return f"nothing is new: all {len(orders)} were queued before (--jobs shows how far they are)"
    return (
        f"queued {queued.trainings} trainings for {queued.hand_ins} new entries, of {len(orders)} asked for; "
        "workers train and submit them (manage.py worker)"
    )


def _jobs() -> list[str]:
    """Return a line a training, and behind one that failed whose fault it was and why."""
    store = TrainingStore(read_environment().run_store_url)
    rows = [("recipe", "seed", "state", "epoch", "worker", "why")]
    for one in store.trainings():
        why = f"{one.fault}: {one.error}" if one.fault else one.error or ""
        rows.append((one.name, str(one.seed), one.state, f"{one.epochs_done}/{one.epochs}", one.worker or "–", why))
    store.close()
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


class _Live:
    """One line that follows the training on a terminal, gone at its end."""

    def __init__(self, console: Console, recipe: Recipe, board: "TensorBoard | None" = None) -> None:
        columns = (
            TextColumn("epoch {task.completed}/{task.total}"), BarColumn(bar_width=8), TextColumn("{task.description}"),
            TextColumn("eta"), TimeRemainingColumn(),
        )  # fmt: skip  # the line as it is read
        self._progress = Progress(
            *columns,
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=86_400,  # an epoch may take long
        )
        self._task = self._progress.add_task("starting", total=recipe.epochs)
        self._board = board
        self._held_out = ""
        self.heard = False

    def __enter__(self) -> "_Live":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()
        if self._board is not None:
            self._board.close()

    def show(self, record: "EpochRecord") -> None:
        """Show an epoch; the first one tells whether the training went on from a saved state."""
        if not self.heard and record.epoch > 1:
            _print_lines(self._progress.console, [f"goes on after epoch {record.epoch - 1}"])
        self.heard = True
        if self._board is not None:
            self._board.show(record)
        if record.held_out is not None:
            seen = record.held_out
            self._held_out = f" · held out: loss {seen.robust_loss:.3f}, error {seen.robust_error:.1%}"
        self._progress.update(self._task, completed=record.epoch, description=f"loss {record.loss:.3f}{self._held_out}")
