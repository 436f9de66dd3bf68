"""What owners and staff can do with a submission: each action declared once, when offered, what it does."""

from collections.abc import Callable
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import transaction

from evaluator.exceptions import Fault, InvalidRequest
from leaderboard import services, trail
from leaderboard.models import State, Submission
from leaderboard.watching import SubmissionStatus, status_of


@dataclass(frozen=True)
class Action:
    """One button. `perform` gets a reason from staff alone, and returns False where somebody was quicker.

    A `final` one is asked for twice.
    """

    label: str
    consequence: str
    done: str
    offered: Callable[[SubmissionStatus], bool]
    perform: Callable[[Submission, str], bool]
    final: bool = False
    staff: bool = False
    """Whether it is for staff alone."""


def _may_run_again(status: SubmissionStatus) -> bool:
    if status.failure is not None:
        return status.failure.fault != Fault.SUBMITTER
    return status.state is State.CANCELLED


ACTIONS: dict[str, Action] = {
    "cancel": Action(
        "Cancel",
        "ends the measuring; it can be run again later",
        "The run is cancelled.",
        lambda status: not status.ended,
        lambda submission, _: services.cancel(submission.run_id),
    ),
    "run-again": Action(
        "Run again",
        "measures the same file again, from the start",
        "It waits to be measured again.",
        _may_run_again,
        lambda submission, _: services.run_again(submission),
    ),
    "keep": Action(
        "Leave as it is",
        "takes it from the list of what waits for a decision, until it has another run",
        "It stays as it is.",
        lambda status: status.state in (State.PUBLISHED, State.FAILED),
        lambda submission, _: True,
        staff=True,
    ),
    "suspend": Action(
        "Suspend",
        "takes it from the board until staff restores it; its address says why",
        "It is suspended.",
        lambda status: status.state is State.PUBLISHED,
        services.suspend,
        staff=True,
    ),
    "restore": Action(
        "Restore",
        "brings its entry back",
        "It is restored.",
        lambda status: status.state is State.SUSPENDED,
        lambda submission, _: services.restore(submission),
        staff=True,
    ),
    "measure-again": Action(
        "Measure again",
        "takes its numbers from the board until they are measured anew, from the start",
        "It waits to be measured again.",
        lambda status: status.state in (State.PUBLISHED, State.MEASURED, State.SUSPENDED),
        lambda submission, _: services.run_again(submission, finished=True),
        staff=True,
    ),
    "publish": Action(
        "Publish",
        "shows it to everybody, on the board too once it is measured",
        "Everybody can see it now.",
        lambda status: status.is_private and status.state is not State.WITHDRAWN,
        lambda submission, _: services.publish(submission),
    ),
    "hide": Action(
        "Hide",
        "takes it from the board and from everybody but you and staff; it can be published again",
        "Only you and staff can see it now.",
        lambda status: not status.is_private and status.state is not State.WITHDRAWN,
        lambda submission, _: services.hide(submission),
    ),
    "reveal": Action(
        "Reveal authors",
        "shows authors and paper to everybody who can see it",
        "Authors and paper are shown.",
        lambda status: status.is_anonymous and status.state is not State.WITHDRAWN,
        lambda submission, _: services.reveal(submission),
    ),
    "withdraw": Action(
        "Withdraw",
        "takes it from the board for good and ends its measuring; its address says that it was withdrawn",
        "It is withdrawn.",
        lambda status: status.state is not State.WITHDRAWN,
        services.withdraw,
        final=True,
    ),
}


NO_REASON = "no reason was given; say why, for whoever reads the trail of what staff did"


def as_staff(user: User, submission: Submission) -> bool:
    """Say whether what an insider does with a submission is an act of staff: it is not their own."""
    return submission.owner_id != user.pk


def offered(status: SubmissionStatus, *, staff: bool) -> dict[str, Action]:
    """Return what can be done with a submission as it stands, by its owner or by staff."""
    return {name: action for name, action in ACTIONS.items() if action.offered(status) and (staff or not action.staff)}


def perform(name: str, submission: Submission, user: User, reason: str = "") -> bool:
    """Do with a submission what its owner or staff asks for; return False where it is not offered any more.

    What staff does is written into the trail in the same transaction.

    Raises:
        InvalidRequest: staff does not say why.
    """
    staff, reason = as_staff(user, submission), reason.strip()
    if staff and not reason:
        raise InvalidRequest(NO_REASON)
    if name not in offered(status_of(submission), staff=staff):
        return False
    with transaction.atomic():
        if staff:
            trail.record(user, name, reason, submission=submission)
        done = ACTIONS[name].perform(submission, reason if staff else "")
        if not done:
            transaction.set_rollback(True)
    return done
