"""The part of the API that says what is known of entries: a list of all, newest first, and each in full."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.http import Http404, HttpRequest
from django.views.decorators.http import conditional_page
from ninja import Query, Router, Schema
from ninja.decorators import decorate_view

from evaluator.results import Measurement
from leaderboard import selectors
from leaderboard.access import Rule, access
from leaderboard.api_refusals import refusals
from leaderboard.board_api import NumberOut
from leaderboard.details import details_of
from leaderboard.models import Entry, Submission
from leaderboard.paging import Paging, newest_first
from leaderboard.throttling import limited
from leaderboard.trainings import Training

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


class SnapshotOut(Schema):
    """One published checkpoint of a training after an epoch, with its numbers under its protocol."""

    slug: str
    title: str
    protocol: str
    protocol_version: int
    url: str
    epoch: int
    numbers: dict[str, NumberOut]


class TrainingOut(Schema):
    """The training that an entry comes from, after which epoch, and all that is published of it, epoch by epoch."""

    recipe: str
    recipe_digest: str
    seed: int
    epoch: int
    epochs: int
    snapshots: list[SnapshotOut]


class EntryInFull(EntryLine):
    """All that is published of one entry: numbers by the board's columns, stages, findings of the trust checks, curves.

    Curves are those that its own run measured. `training` is there for what a recipe of this site trained.
    """

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
    training: TrainingOut | None
    stages: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    curves: list[dict[str, Any]]
    robust_on_test: str


@router.get("/", response={200: EntriesOut, 304: None, **refusals(400)})
@decorate_view(conditional_page)
@access(Rule.PUBLIC)
@limited("api")
def entries(request: HttpRequest, asked: Query[Paging]) -> EntriesOut:
    """All entries of all protocols, those published last first."""
    rows = Entry.objects.select_related("submission").defer("stages", "findings", "curves", "robust_on_test")
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
        numbers=_numbers(selectors.numbers(found, training)),
        training=_training(submission, training),
        stages=found.stages,
        findings=found.findings,
        curves=found.curves,
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


def _training(submission: Submission, training: Training | None) -> TrainingOut | None:
    origin = selectors.origin_of(submission)
    if origin is None or training is None:
        return None
    snapshots = [
        SnapshotOut(
            slug=one.slug,
            title=one.title,
            protocol=one.protocol,
            protocol_version=one.version,
            url=one.url,
            epoch=one.origin.epoch,
            numbers=_numbers(one.numbers),
        )
        for _, of_protocol in training.by_protocol
        for one in of_protocol
    ]
    return TrainingOut(
        recipe=origin.recipe,
        recipe_digest=origin.digest,
        seed=origin.seed,
        epoch=origin.epoch,
        epochs=origin.epochs,
        snapshots=sorted(snapshots, key=lambda one: one.epoch),
    )


def _numbers(numbers: Mapping[str, Measurement]) -> dict[str, NumberOut]:
    return {key: NumberOut(value=one.value, low=one.low, high=one.high, n=one.n) for key, one in numbers.items()}
