"""All published entries of a protocol as rows: read once for each state of the database, then kept in memory.

Ranks, tie groups and the Pareto front are about all entries, so one changed entry may move every other. They are
computed once for each change, in which only the changed entries are read; a request compares one stamp. An entry
takes some 30 kB in each process.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from threading import Lock
from typing import Any

from django.db.models import Count, Max, Sum
from django.urls import reverse

from evaluator.exceptions import InvalidRequest
from evaluator.protocol import EvaluationProtocol
from evaluator.results import Measurement as Number
from evaluator.trust.findings import Verdict
from evaluator.types import Split
from leaderboard.columns import COLUMNS, EARLY_STOPPED, stopped_of
from leaderboard.details import Details, public
from leaderboard.models import Entry, Measurement
from leaderboard.ranking import Contestant, Standing, pareto_front, rank
from leaderboard.trainings import Key, Origin, as_early_stopped
from trainers.recipe import load_recipe

FRONT = ("robust_error_test", "clean_error_test", "flatness_test")
"""By which numbers the Pareto front is drawn; an entry without one of them stands outside."""

_OF_SUBMISSION = (
    "slug", "title", "is_reference", "stored_numbers", "published_at", "updated_at", "checkpoint_sha256", "manifest",
    "extra_data", "authors", "paper", "venue", "is_anonymous",
)  # fmt: skip
_COLUMNS = {(column.metric.key, column.split or ""): column for column in COLUMNS.values()}


@dataclass(frozen=True)
class Row:
    """One entry as every view of the board shows it; `standing` is None where it is not ranked."""

    slug: str
    title: str
    url: str
    architecture: str
    is_reference: bool
    stored_numbers: int
    seconds: float
    published_at: datetime
    numbers: dict[str, Number]
    checkpoint: str
    extra_data: str
    flags: tuple[str, ...]
    facets: dict[str, str]
    text: str
    """Lower-case words that a search looks through."""
    said: Details = field(default_factory=Details)
    """What everybody may read of who made it, and where."""
    standing: Standing | None = None
    on_front: bool = False


@dataclass(frozen=True)
class Stamp:
    """Which entries a protocol has and when the last of them changed; who changes one touches its `updated_at`."""

    count: int
    ids: int
    changed: datetime


@dataclass(frozen=True)
class Listing:
    """All entries of one protocol by rank, then title; unranked ones stand last. `counts` are by facet and value."""

    rows: tuple[Row, ...]
    counts: dict[str, Counter[str]]
    as_of: datetime | None


@dataclass(frozen=True)
class _Entry:
    """What is kept of one entry until it changes.

    `contestant` is None where it is never ranked, `origin` where it is of no training of ours.
    """

    changed: datetime
    row: Row
    contestant: Contestant | None
    origin: Origin | None


@dataclass(frozen=True)
class _Kept:
    stamps: tuple[Stamp | None, ...]
    """Of the protocol, and of those that measure early-stopped snapshots for it."""
    entries: dict[int, _Entry]
    listing: Listing


_EMPTY = _Kept((), {}, Listing((), {}, None))
_kept: dict[str, _Kept] = {}
_reading = Lock()


def stamps() -> dict[str, Stamp]:
    """Return the stamp of every protocol that has entries, by digest."""
    rows = Entry.objects.values_list("submission__protocol_digest").annotate(
        Count("id"), Sum("id"), Max("submission__updated_at")
    )
    return {digest: Stamp(*of_all) for digest, *of_all in rows}


def listing(protocol: EvaluationProtocol, now: Mapping[str, Stamp]) -> Listing:
    """Return the entries of `protocol` as they were at the stamps of `now`, or later."""
    seen = tuple(now.get(one.digest) for one in (protocol, *stopped_of(protocol)))
    kept = _kept.get(protocol.digest, _EMPTY)
    if kept.stamps != seen:
        with _reading:  # others wait for the same rows instead of reading them as well
            kept = _kept.get(protocol.digest, _EMPTY)
            if kept.stamps != seen:
                own, *others = seen
                entries = _read(protocol, kept.entries) if own else {}
                stopped = _stopped(protocol) if own and any(others) else {}
                kept = _kept[protocol.digest] = _Kept(seen, entries, _listed(entries, stopped))
    return kept.listing


def _read(protocol: EvaluationProtocol, before: dict[int, _Entry]) -> dict[int, _Entry]:
    """Return all entries by key, reading those that are new or changed."""
    of_protocol = Entry.objects.filter(submission__protocol_digest=protocol.digest).order_by()
    now = dict(of_protocol.values_list("pk", "submission__updated_at"))
    changed = {pk: at for pk, at in now.items() if pk not in before or before[pk].changed != at}
    found = {pk: before[pk] for pk in now.keys() - changed.keys()}
    if changed:
        since = min(changed.values())
        numbers = _numbers(protocol, since)
        fields = ("pk", "rankable", "seconds", "robust_on_test", "findings", "stages")
        entries = of_protocol.filter(submission__updated_at__gte=since)
        rows = entries.values_list(*fields, *(f"submission__{name}" for name in _OF_SUBMISSION), named=True)
        for one in rows.iterator():
            if one.pk in changed:
                found[one.pk] = _entry(one, numbers[one.pk])
    return found


def _listed(by_key: Mapping[int, _Entry], stopped: Mapping[Key, Number]) -> Listing:
    entries = _paired(by_key, stopped)
    ranked = [one for one in entries if one.contestant]
    standings = rank(one.contestant for one in ranked if one.contestant)
    points = {
        one.row.slug: tuple(one.row.numbers[name].value for name in FRONT if name in one.row.numbers) for one in ranked
    }
    front = pareto_front({slug: point for slug, point in points.items() if len(point) == len(FRONT)})
    rows = [
        replace(row, standing=standings.get(row.slug), on_front=row.slug in front)
        for row in (one.row for one in entries)
    ]
    rows.sort(key=lambda row: (row.standing.rank if row.standing else len(rows) + 1, row.title.casefold(), row.slug))
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for name, value in row.facets.items():
            counts[name][value] += 1
    return Listing(tuple(rows), dict(counts), max((row.published_at for row in rows), default=None))


def _paired(entries: Mapping[int, _Entry], stopped: Mapping[Key, Number]) -> list[_Entry]:
    """Return entries with the early-stopped robust error of their training, as far as it is known."""
    known: dict[Key, Number] = {}
    chosen = {}
    for key, one in sorted(entries.items(), key=lambda item: (item[1].row.published_at, item[0])):
        if one.origin and one.origin.early_stopped and (number := one.row.numbers.get("robust_error_test")):
            known[one.origin.training] = chosen[key] = as_early_stopped(number)
    known |= stopped
    paired = []
    for key, one in entries.items():
        number = chosen.get(key) or (known.get(one.origin.training) if one.origin else None)
        row = replace(one.row, numbers=one.row.numbers | {EARLY_STOPPED.key: number}) if number else one.row
        paired.append(replace(one, row=row))
    return paired


def _entry(entry: Any, numbers: dict[str, Number]) -> _Entry:
    slug, manifest = entry.submission__slug, entry.submission__manifest
    architecture, recipe = manifest["architecture"], manifest["recipe"]
    is_reference = entry.submission__is_reference
    extra_data = _extra_data(recipe) if is_reference else entry.submission__extra_data
    verdicts = {finding["verdict"] for finding in entry.findings}
    flags = [finding["sentence"] for finding in entry.findings if finding["verdict"] != Verdict.PASS]
    flags += [warning for stage in entry.stages for warning in stage["warnings"]]
    said = public(
        Details(
            authors=entry.submission__authors,
            paper=entry.submission__paper,
            venue=entry.submission__venue,
            is_anonymous=entry.submission__is_anonymous,
        )
    )
    people = () if said.is_anonymous else (said.authors, said.venue)  # a search must not try names on anonymous ones
    row = Row(
        slug=slug,
        title=entry.submission__title,
        url=reverse("entry", args=[slug]),
        architecture=architecture,
        is_reference=is_reference,
        stored_numbers=entry.submission__stored_numbers,
        seconds=entry.seconds,
        published_at=entry.submission__published_at,
        numbers=numbers,
        checkpoint=entry.submission__checkpoint_sha256,
        extra_data=extra_data,
        flags=tuple(dict.fromkeys(flags)),
        facets={
            "architecture": architecture,
            "data": extra_data,
            "division": "reference" if is_reference else "submitted",
            "trust": "failed" if Verdict.FAIL in verdicts else "flagged" if flags else "no flags",
        },
        said=said,
        text=" ".join((entry.submission__title, slug, architecture, recipe or "", *people)).casefold(),
    )
    contestant = None
    if entry.rankable and Verdict.FAIL not in verdicts:
        error, loss = (numbers[name].value for name in ("robust_error_test", "robust_loss_test"))
        contestant = Contestant(slug, error, loss, entry.robust_on_test)
    origin = Origin.of(manifest) if is_reference else None
    return _Entry(entry.submission__updated_at, row, contestant, origin)


@lru_cache(maxsize=1024)
def _extra_data(recipe: str | None) -> str:
    """Return what was trained on beside the data set, as far as one of our own recipes says so."""
    try:
        source = load_recipe(recipe).source if recipe else None
    except InvalidRequest:
        source = None
    return "not stated" if source is None else "unlabeled images" if source.kind == "unlabeled" else "none"


def _numbers(protocol: EvaluationProtocol, since: datetime) -> dict[int, dict[str, Number]]:
    """Return the numbers of entries changed since, by entry and column, in the order in which metrics are declared."""
    found: dict[int, dict[str, Number]] = defaultdict(dict)
    rows = Measurement.objects.filter(
        entry__submission__protocol_digest=protocol.digest, entry__submission__updated_at__gte=since
    )
    columns = rows.order_by().values_list("entry_id", "metric", "split", "value", "low", "high", "n")
    for entry, metric, split, *values in columns.iterator():
        if (metric, split) in _COLUMNS:  # it may have been dropped since
            column = _COLUMNS[metric, split]
            found[entry][column.key] = Number(metric, column.split, *values)
    return {entry: {name: each[name] for name in COLUMNS if name in each} for entry, each in found.items()}


def _stopped(protocol: EvaluationProtocol) -> dict[Key, Number]:
    """Return the robust errors of early-stopped snapshots that a part of `protocol` measured, by training."""
    digests = [one.digest for one in stopped_of(protocol)]
    rows = Measurement.objects.filter(
        metric="robust_error", split=Split.TEST,
        entry__submission__protocol_digest__in=digests, entry__submission__is_reference=True,
    ).order_by("entry__submission__published_at", "entry_id")  # fmt: skip  # what was published last counts
    found = {}
    for manifest, *values in rows.values_list("entry__submission__manifest", "value", "low", "high", "n"):
        if (origin := Origin.of(manifest)) is not None:
            found[origin.training] = as_early_stopped(Number("robust_error", Split.TEST, *values))
    return found
