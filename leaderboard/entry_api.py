"""The part of the API that says what is known of entries: a list of all, newest first, and each in full."""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.http import Http404, HttpRequest
from django.views.decorators.http import conditional_page
from ninja import Query, Router, Schema
from ninja.decorators import decorate_view

from leaderboard import selectors
from leaderboard.access import Rule, access
from leaderboard.api_refusals import refusals
from leaderboard.board_api import NumberOut
from leaderboard.details import details_of
from leaderboard.models import Entry
from leaderboard.paging import Paging, newest_first
from leaderboard.throttling import limited

router = Router(tags=["entries"])


class EntryLine(Schema):
    """One entry of the list."""

    slug: str
    title: str
    protocol: str
    protocol_version: int
    url: str
    published_at: datetime


class EntriesOut(Schema):
    """One page of the list; `next` is the slug after which the next one begins."""

    entries: list[EntryLine]
    next: str | None


class EntryInFull(EntryLine):
    """All that is published of one entry: numbers by the board's columns, stages, findings of the trust checks."""

    run_id: str
    rankable: bool
    protocol_digest: str
    checkpoint_sha256: str
    architecture: str
    options: dict[str, Any]
    is_reference: bool
    stored_numbers: int
    authors: str
    paper: str
    venue: str
    extra_data: str
    seed: int
    seconds: float
    versions: dict[str, Any]
    numbers: dict[str, NumberOut]
    stages: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    robust_on_test: str


@router.get("/", response={200: EntriesOut, 304: None, **refusals(400)})
@decorate_view(conditional_page)
@access(Rule.PUBLIC)
@limited("api")
def entries(request: HttpRequest, asked: Query[Paging]) -> EntriesOut:
    """All entries of all protocols, those published last first."""
    rows = Entry.objects.select_related("submission").defer("stages", "findings", "robust_on_test")
    page, following = newest_first(rows, asked, slug="submission__slug", at="submission__published_at")
    return EntriesOut(entries=[EntryLine(**_line(entry)) for entry in page], next=following)


@router.get("/{slug:slug}/", response={200: EntryInFull, 304: None, **refusals(404)})
@decorate_view(conditional_page)
@access(Rule.VISIBLE)
@limited("api")
def entry(request: HttpRequest, slug: str) -> EntryInFull:
    """One entry with all its numbers, and what was seen on the way to them."""
    found = selectors.entry(slug)
    if found is None:
        raise Http404
    submission = found.submission
    said = details_of(submission, AnonymousUser())
    (training,) = selectors.trainings([submission])
    numbers = selectors.numbers(found, training).items()
    return EntryInFull(
        **_line(found),
        run_id=str(found.run_id),
        rankable=found.rankable,
        protocol_digest=submission.protocol_digest,
        checkpoint_sha256=submission.checkpoint_sha256,
        architecture=submission.manifest["architecture"],
        options=submission.manifest["options"],
        is_reference=submission.is_reference,
        stored_numbers=submission.stored_numbers,
        authors=said.authors,
        paper=said.paper,
        venue=said.venue,
        extra_data=said.extra_data,
        seed=found.seed,
        seconds=found.seconds,
        versions=found.versions,
        numbers={key: NumberOut(value=one.value, low=one.low, high=one.high, n=one.n) for key, one in numbers},
        stages=found.stages,
        findings=found.findings,
        robust_on_test=found.robust_on_test,
    )


def _line(entry: Entry) -> dict[str, Any]:
    submission = entry.submission
    return {
        "slug": submission.slug,
        "title": submission.title,
        "protocol": submission.protocol_name,
        "protocol_version": submission.protocol_version,
        "url": submission.get_absolute_url(),
        "published_at": submission.published_at,
    }
