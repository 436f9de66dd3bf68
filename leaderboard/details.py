"""What people say about a checkpoint beside its file, and who may read it."""

from dataclasses import asdict, dataclass, replace
from datetime import datetime

from django.contrib.auth.models import AnonymousUser, User

from leaderboard.access import owns
from leaderboard.models import ExtraData, Submission


@dataclass(frozen=True)
class Details:
    """Who made a network, where it is described, and what it was trained on beside the data set.

    `consented_at` is when whoever sent it agreed to its measurement and publication. Of an anonymous one the owner and
    staff alone see authors and paper.
    """

    authors: str = ""
    paper: str = ""
    venue: str = ""
    extra_data: str = ExtraData.NOT_STATED
    is_anonymous: bool = False
    consented_at: datetime | None = None

    @property
    def said(self) -> bool:
        """Whether there is anything to read."""
        return self != Details(consented_at=self.consented_at)


def details_of(submission: Submission, reader: User | AnonymousUser) -> Details:
    """Return of the details of a submission what somebody may read."""
    details = said_of(submission)
    return details if owns(reader, submission) else public(details)


def said_of(submission: Submission) -> Details:
    """Return all that is said of a submission, which is not for everybody."""
    return Details(**{name: getattr(submission, name) for name in asdict(Details())})


def public(details: Details) -> Details:
    """Return of some details what everybody may read."""
    return replace(details, authors="", paper="") if details.is_anonymous else details
