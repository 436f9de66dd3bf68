"""What waits for a decision of staff: objections, flagged entries, runs that failed without their sender's fault."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import F, QuerySet

from evaluator.exceptions import Fault
from evaluator.shipped import PROTOCOLS
from leaderboard import objections, reruns
from leaderboard.actions import ACTIONS, Action
from leaderboard.listing import Row, listing, stamps
from leaderboard.models import Objection, StaffAct, State, Submission

MOST = 20
"""How many of a kind are shown at a time."""


@dataclass(frozen=True)
class Case:
    """A submission, what was seen of it, and what can be decided."""

    submission: Submission
    seen: tuple[str, ...]
    actions: dict[str, Action]


@dataclass(frozen=True)
class Cases:
    """The first of all cases of one kind."""

    key: str
    title: str
    about: str
    total: int
    first: tuple[Case, ...]


@dataclass(frozen=True)
class Desk:
    """All that waits, as the page shows it."""

    objections: tuple[Objection, ...]
    unanswered: int
    cases: tuple[Cases, ...]
    outdated: dict[str, int]
    """Of how many entries the newest version of their protocol has nothing yet."""


def document(found: Desk) -> dict[str, Any]:
    """Return what waits as plain JSON."""
    return {
        "objections": [objections.document(one) for one in found.objections],
        "unanswered": found.unanswered,
        **{
            cases.key: {
                "total": cases.total,
                "first": [
                    {"slug": case.submission.slug, "title": case.submission.title, "seen": case.seen,
                     "actions": list(case.actions)}
                    for case in cases.first
                ],
            }
            for cases in found.cases
        },
        "outdated": found.outdated,
    }  # fmt: skip


def desk() -> Desk:
    """Return what waits for a decision; a few queries, however much it is."""
    unanswered = objections.waiting()
    return Desk(tuple(unanswered[:MOST]), unanswered.count(), (_flagged(), _failed(), _suspended()), reruns.waiting())


def _flagged() -> Cases:
    """Return published entries with failed trust checks first, then those with warnings, the worst first."""
    known, judged = stamps(), set(_judged().values_list("slug", flat=True))
    protocols = (protocol for versions in PROTOCOLS.values() for protocol in versions)
    rows = [
        row for protocol in protocols for row in listing(protocol, known).rows if row.flags and row.slug not in judged
    ]
    rows.sort(key=_urgency)
    found = Submission.objects.in_bulk([row.slug for row in rows[:MOST]], field_name="slug")
    about = "What trust checks and attacks said of published entries. Entries that fail a check take no rank."
    cases = ((found[row.slug], row.flags) for row in rows[:MOST] if row.slug in found)
    return _cases("flagged", "Flagged entries", about, len(rows), cases, ("keep", "suspend", "measure-again"))


def _failed() -> Cases:
    found = Submission.objects.filter(state=State.FAILED).exclude(fault=Fault.SUBMITTER)
    found = found.exclude(pk__in=_judged().values("pk")).order_by("updated_at")
    about = "Runs that failed because of the machines or the software of this board."
    cases = ((one, (one.failure,)) for one in found[:MOST])
    return _cases("failed", "Failed on our side", about, found.count(), cases, ("run-again", "keep"))


def _suspended() -> Cases:
    found = Submission.objects.filter(state=State.SUSPENDED).order_by("suspended_at")
    about = "Entries that staff took from the board; their addresses say why."
    cases = ((one, (one.staff_reason,)) for one in found[:MOST])
    return _cases("suspended", "Suspended entries", about, found.count(), cases, ("restore", "measure-again"))


def _judged() -> QuerySet[Submission]:
    """Return what staff decided to leave as it is, and has had no other run since."""
    kept = StaffAct.objects.filter(what="keep", run_id=F("submission__run_id"))
    return Submission.objects.filter(pk__in=kept.values("submission"))


def _urgency(row: Row) -> tuple[bool, int, str]:
    return row.facets["trust"] != "failed", -len(row.flags), row.slug


def _cases(
    key: str,
    title: str,
    about: str,
    total: int,
    found: Iterable[tuple[Submission, tuple[str, ...]]],
    names: tuple[str, ...],
) -> Cases:
    actions = {name: ACTIONS[name] for name in names}
    return Cases(key, title, about, total, tuple(Case(submission, seen, actions) for submission, seen in found))
