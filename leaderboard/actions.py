"""What the owner of a submission, and staff, can do with it: each action declared once, when offered, what it does."""

from collections.abc import Callable
from dataclasses import dataclass

from evaluator.exceptions import Fault
from leaderboard import services
from leaderboard.models import State, Submission
from leaderboard.watching import SubmissionStatus


@dataclass(frozen=True)
class Action:
    """One button. `perform` returns False where somebody was quicker; a `final` one is asked for twice."""

    label: str
    consequence: str
    done: str
    offered: Callable[[SubmissionStatus], bool]
    perform: Callable[[Submission], bool]
    final: bool = False


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
        lambda submission: services.cancel(submission.run_id),
    ),
    "run-again": Action(
        "Run again",
        "measures the same file again, from the start",
        "It waits to be measured again.",
        _may_run_again,
        services.run_again,
    ),
    "publish": Action(
        "Publish",
        "shows it to everybody, on the board too once it is measured",
        "Everybody can see it now.",
        lambda status: status.is_private and status.state is not State.WITHDRAWN,
        services.publish,
    ),
    "hide": Action(
        "Hide",
        "takes it from the board and from everybody but you and staff; it can be published again",
        "Only you and staff can see it now.",
        lambda status: not status.is_private and status.state is not State.WITHDRAWN,
        services.hide,
    ),
    "reveal": Action(
        "Reveal authors",
        "shows authors and paper to everybody who can see it",
        "Authors and paper are shown.",
        lambda status: status.is_anonymous and status.state is not State.WITHDRAWN,
        services.reveal,
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


def offered(status: SubmissionStatus) -> dict[str, Action]:
    """Return what can be done with a submission as it stands."""
    return {name: action for name, action in ACTIONS.items() if action.offered(status)}
