"""When a protocol gets a new version: what stands under older ones is measured under the newest, beside them."""

from copy import copy
from uuid import uuid4

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from evaluator.protocol import EvaluationProtocol
from evaluator.shipped import PROTOCOLS, find_protocol
from leaderboard import services, trail
from leaderboard.models import State, Submission

PRIORITY = -10
"""What people hand in is measured first."""

AT_ONCE = 100
"""How many entries one click queues; the next goes on."""


def outdated(name: str, version: int | None = None) -> QuerySet[Submission]:
    """Return the published entries under older versions of a protocol, or one of them, newest version first.

    Left out is what was handed in under the newest version already, so that whoever stops half-way can go on.

    Raises:
        InvalidRequest: there is no such protocol or version.
    """
    newest = find_protocol(name)
    found = Submission.objects.filter(protocol_name=name, state=State.PUBLISHED).exclude(protocol_digest=newest.digest)
    if version is not None:
        found = found.filter(protocol_digest=find_protocol(name, version).digest)
    known = Submission.objects.filter(protocol_digest=newest.digest).values("checkpoint_sha256")
    return found.exclude(checkpoint_sha256__in=known).order_by("-protocol_version", "pk")


def waiting() -> dict[str, int]:
    """Return of how many entries the newest version of their protocol has nothing yet, by protocol."""
    counts = {name: outdated(name).count() for name, versions in PROTOCOLS.items() if versions[1:]}
    return {name: count for name, count in counts.items() if count}


def rerun(submission: Submission, actor: User | None, reason: str) -> Submission | None:
    """Queue the file of an entry, at low priority, under the newest version of its protocol; its entry stays.

    None where the file was handed in under that version already.
    """
    fresh = _under(submission, find_protocol(submission.protocol_name))
    try:
        with transaction.atomic():
            fresh.save(force_insert=True)
            trail.record(actor, "rerun", reason, submission=fresh)
    except IntegrityError:
        return None
    services.enqueue(fresh, priority=PRIORITY)
    return fresh


def _under(submission: Submission, protocol: EvaluationProtocol) -> Submission:
    """Return a submission of the same file by the same owner under another protocol, unsaved."""
    fresh = copy(submission)
    fresh.pk, fresh.run_id, fresh.idempotency_key = None, uuid4(), ""
    fresh.wants_preview = False  # its owner has a number, and does not wait for another
    fresh.slug = services.slug_of(fresh.title, fresh.run_id)
    fresh.state, fresh.published_at, fresh.created_at = State.SUBMITTED, None, None
    services.put_under(fresh, protocol)
    return fresh
