"""What people say against published entries, and what staff answers them."""

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from evaluator.exceptions import InvalidRequest
from leaderboard import trail
from leaderboard.actions import ACTIONS, as_staff, perform
from leaderboard.models import Objection, State, Submission, Verdict

LENGTHS = range(20, 2001)
"""How many characters an objection and its answer have."""


@dataclass(frozen=True)
class Answer:
    """One way to answer: the verdict, and what is done with the entry, an action's name, if anything."""

    label: str
    consequence: str
    verdict: Verdict
    action: str = ""


ANSWERS: dict[str, Answer] = {
    "suspend": Answer("Accept, suspend", ACTIONS["suspend"].consequence, Verdict.ACCEPTED, "suspend"),
    "measure-again": Answer(
        "Accept, measure again", ACTIONS["measure-again"].consequence, Verdict.ACCEPTED, "measure-again"
    ),
    "reject": Answer("Reject", "the entry stays as it is; readers see objection and answer", Verdict.REJECTED),
    "dismiss": Answer("Dismiss", "for what says nothing of the entry; readers do not see it", Verdict.DISMISSED),
}


def object_to(submission: Submission, objector: User, text: str) -> Objection:
    """Let somebody object to a published entry.

    Raises:
        InvalidRequest: the entry is not published, the text too short or too long, or an earlier one is unanswered.
    """
    if submission.state != State.PUBLISHED:
        raise InvalidRequest(f"{submission.title} is {submission.state}; one objects to what is published")
    try:
        with transaction.atomic():
            return Objection.objects.create(submission=submission, objector=objector, text=_checked(text))
    except IntegrityError as error:
        raise InvalidRequest(
            "your earlier objection to this entry has no answer yet; wait for it before you object again"
        ) from error


def answer(objection: Objection, staff: User, how: str, text: str) -> bool:
    """Answer an objection, and do with the entry what was decided; False where it was answered before.

    Raises:
        InvalidRequest: there is no such answer, its text is too short or too long, or the entry is the staff's own;
            nothing is changed.
    """
    if how not in ANSWERS:
        raise InvalidRequest(f"no answer is called {how!r}; there are {', '.join(ANSWERS)}")
    chosen, text, submission = ANSWERS[how], _checked(text), objection.submission
    if not as_staff(staff, submission):
        raise InvalidRequest(f"{submission.title} is your own; somebody else of the staff has to answer")
    waiting = Objection.objects.filter(pk=objection.pk, verdict=Verdict.OPEN)
    with transaction.atomic():
        if not waiting.update(verdict=chosen.verdict, answer=text, answered_at=timezone.now()):
            return False
        trail.record(staff, f"objection {chosen.verdict}", text, submission=submission)
        if chosen.action:
            perform(chosen.action, submission, staff, text)
    return True


def waiting() -> QuerySet[Objection]:
    """Return what has no answer yet, oldest first."""
    return Objection.objects.filter(verdict=Verdict.OPEN).select_related("submission", "objector")


def readable(submission: Submission, reader: User | AnonymousUser) -> QuerySet[Objection]:
    """Return what was accepted or rejected, for everybody, and the reader's own."""
    mine = Q(objector=reader) if reader.is_authenticated else Q(pk=None)
    return submission.objections.filter(Q(verdict__in=(Verdict.ACCEPTED, Verdict.REJECTED)) | mine)


def document(objection: Objection) -> dict[str, Any]:
    """Return an objection as plain JSON, without who it is."""
    return {
        "verdict": objection.verdict,
        "text": objection.text,
        "answer": objection.answer,
        "created_at": objection.created_at.isoformat(),
        "answered_at": objection.answered_at and objection.answered_at.isoformat(),
    }


def _checked(text: str) -> str:
    text = text.strip()
    if len(text) not in LENGTHS or "\x00" in text:
        raise InvalidRequest(
            f"a text has {LENGTHS[0]} to {LENGTHS[-1]} characters of plain text, got {len(text)}; "
            "say what was seen and where, in words that others can check"
        )
    return text
