"""`manage.py queue`: how the work stands, and the few things that people decide about it."""

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from pydantic import TypeAdapter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluator.environment import read_environment
from evaluator.exceptions import EvaluatorError
from evaluator.store import Role, RunState, Status
from leaderboard import services, trail
from leaderboard.models import Submission
from leaderboard.monitoring import state_of
from leaderboard.templatetags.numbers import duration

PRIORITIES = range(-1000, 1001)

_DECISIONS = ("pause", "resume", "drain", "undrain", "cancel", "priority")


class Command(BaseCommand):
    """Show the queue, or decide something about it."""

    help = "Show what waits, who works and what failed; pause a role, drain a worker, cancel or prefer a run."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        roles = [role.value for role in Role]
        one = parser.add_mutually_exclusive_group()
        one.add_argument("--pause", metavar="ROLE", choices=roles, help="hand out no more work; needs --reason")
        one.add_argument("--resume", metavar="ROLE", choices=roles, help="hand out work again")
        one.add_argument("--drain", metavar="WORKER", help="let a worker finish what it holds and take no more")
        one.add_argument("--undrain", metavar="WORKER", help="let it take more again")
        one.add_argument("--cancel", metavar="RUN_ID", help="end a run and its submission; the start of its id will do")
        one.add_argument(
            "--priority", nargs=2, metavar=("RUN_ID", "N"), help="serve a run before those of a lower priority than N"
        )
        one.add_argument("--json", action="store_true", help="show everything as JSON")
        parser.add_argument("--reason", default="", help="why; of a pause, whoever looks at the queue reads it")

    def handle(self, *, reason: str, **options: Any) -> None:
        """Do what was asked, or show how the work stands."""
        reason, decision = reason.strip(), next((name for name in _DECISIONS if options[name] is not None), None)
        if decision == "pause" and not reason:
            raise CommandError("--pause needs --reason: say why, for whoever looks at the queue")
        if reason and decision is None:
            raise CommandError("--reason says why something is done: say what too, for example --pause evaluation")
        try:
            if decision is not None:
                with transaction.atomic():
                    self.stdout.write(_decide(decision, reason, options))
                return
            status = services.run_store().status()
        except EvaluatorError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(TypeAdapter(Status).dump_json(status, indent=2).decode())
        else:
            _show(status, Console())


def _decide(decision: str, reason: str, options: dict[str, Any]) -> str:
    """Do what was decided, write it into the trail, and return a sentence for it."""
    register, value = services.worker_register(), options[decision]
    match decision:
        case "pause":
            register.pause(Role(value), reason)
            done, said, subject = True, f"{value} is paused; what is held is finished", value
        case "resume":
            done, subject = register.resume(Role(value)), value
            said = f"{value} goes on" if done else f"{value} was not paused"
        case "drain" | "undrain":
            done, subject = register.drain(value, drain=decision == "drain"), f"worker {value}"
            if not done:
                known = ", ".join(worker.name for worker in register.workers()) or "none"
                raise CommandError(f"no worker is called {value!r}; those seen within a day: {known}")
            said = f"{value} takes no more work" if decision == "drain" else f"{value} takes work again"
        case "cancel":
            run_id = _find(value)
            done, subject = services.cancel(run_id), f"run {run_id}"
            said = f"{subject} is cancelled" if done else f"{subject} has ended meanwhile"
        case _:
            run_id, priority = _find(value[0]), _priority(value[1])
            done, subject = services.run_store().prioritise(run_id, priority), f"run {run_id} to {priority}"
            said = f"run {run_id} has priority {priority}" if done else f"run {run_id} has ended meanwhile"
    if done:
        submission = Submission.objects.filter(run_id=run_id).first() if decision in ("cancel", "priority") else None
        trail.record(None, decision, reason, submission=submission, subject=subject)
    return said


def _find(start: str) -> UUID:
    """Return the one run that has not ended and whose id begins so."""
    runs = services.run_store().runs(RunState.QUEUED, RunState.RUNNING)
    found = [run.id for run in runs if run.id.hex.startswith(start.replace("-", "").lower())]
    if len(found) != 1:
        these = f": {', '.join(map(str, found[:5]))}{' …' if found[5:] else ''}" if found else ""
        raise CommandError(
            f"{len(found)} of the {len(runs)} runs that wait or run have an id that begins with {start!r}{these}; "
            "give as much of the id as only one has"
        )
    return found[0]


def _priority(number: str) -> int:
    try:
        priority = int(number)
    except ValueError:
        priority = PRIORITIES.stop
    if priority not in PRIORITIES:
        raise CommandError(f"a priority is a whole number from {PRIORITIES[0]} to {PRIORITIES[-1]}, got {number!r}")
    return priority


def _show(status: Status, console: Console) -> None:
    for name, counts, waits in (
        ("runs", status.runs, status.oldest_seconds[Role.EVALUATION]),
        ("shards", status.shards, 0.0),
        ("trainings", status.trainings, status.oldest_seconds[Role.TRAINING]),
    ):
        said = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none"
        console.print(f"{name + ':':<11}{said}{f'; the oldest waits {duration(waits)}' if waits else ''}")
    for pause in status.pauses:
        since = duration((status.at - pause.since).total_seconds())
        console.print(f"[yellow]{pause.role} is paused[/] for {since}: {escape(pause.reason)}")
    workers = _table("worker", "role", "state", "device", "seen", "holds")
    for worker in status.workers:
        state = state_of(worker, read_environment().lease_seconds)
        cells = (worker.name, worker.role, state, worker.device or "–", f"{duration(worker.silent_seconds)} ago")
        workers.add_row(*map(escape, cells), escape(worker.busy_with or "–"))
    console.print(workers if status.workers else "no worker was seen within a day")
    if status.costs:
        means = (f"{cost.stage} {duration(cost.seconds / cost.shards)} × {cost.shards}" for cost in status.costs)
        console.print(f"mean time of a shard: {', '.join(means)}")
    if status.last_failures:
        failures = _table("failed run", "ended", "failure", "fault", "reason")
        for run in status.last_failures:
            ended = f"{duration((status.at - run.at).total_seconds())} ago"
            failures.add_row(str(run.run_id), ended, *map(escape, (run.failure, run.fault or "–", run.error)))
        console.print(failures)


def _table(*columns: str) -> Table:
    table = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    return table
